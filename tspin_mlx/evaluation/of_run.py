"""Evaluate policies of a run, finished or not, on its held-out examples or on other data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from pydantic import ValidationError

from ..base.errors import UsageError
from ..base.progress import OnProgress as Progress
from ..base.progress import in_halves
from ..base.text import suggest
from ..data.read import read_prompts
from ..method.triplets import Prompt, Response
from ..models.folder import context_length, load_tokenizer, vocabulary_size
from ..models.load import Policy
from ..models.of_run import find_model, load_run, use_policy
from ..recipe.schema import EvaluationSection, MetricName, Recipe
from ..runs.run import Run
from .measure import answer_greedily, measure

#: Called with a policy's name, prompts done, and prompts in all; each is answered, then scored.
OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Measured:
    """The measures and answers of a policy.

    Attributes:
        name: the policy's name, as it was asked for.
        folder: the policy's, relative to the run.
        metrics: see :func:`tspin_mlx.evaluation.measure.measure`.
        responses: its greedy answers, in the order of the prompts.
    """

    name: str
    folder: str
    metrics: dict[str, float]
    responses: list[Response]


def held_out_prompts(run: Run, source: str | None, limit: int | None, *, trusted: bool = False) -> tuple[Prompt, ...]:
    """Load the examples to measure on.

    Args:
        source: a file or dataset, read as the recipe reads its data; None uses the run's validation examples.
        limit: use only the first ``limit`` examples.

    Raises:
        DataError: a row that cannot be used (unless the recipe has ``data.skip_bad_rows``).
        SetupError, HubError: the model's tokenizer cannot be loaded.
    """
    if source is None:
        return run.prompts().validation[:limit]
    recipe = run.recipe()
    model = find_model(run, recipe, trusted=trusted)
    prompts, _ = read_prompts(source, recipe.data, load_tokenizer(model), vocabulary_size(model), context_length(model))
    return prompts[:limit]


def evaluation_section(
    run: Run, metrics: Sequence[str] | None = None, regex: str | None = None, max_tokens: int | None = None
) -> EvaluationSection:
    """Return the recipe's section ``evaluation`` with some keys replaced.

    Args:
        metrics: None keeps the recipe's; a ``regex`` adds its metric to those.
        regex: for the metric of that name.
        max_tokens: longest answer; None keeps the recipe's.

    Raises:
        UsageError: no such metric, or an invalid pattern.
    """
    recipe = run.recipe().evaluation
    names: list[str] = list(recipe.metrics)
    if metrics is not None:
        names = list(metrics)
    elif regex is not None and "regex" not in names:
        names.append("regex")
    known = get_args(MetricName)
    for name in names:
        if name not in known:
            raise UsageError(f"unknown metric {name!r}", hint=suggest(name, known, f"known: {', '.join(known)}"))
    pattern = (regex or recipe.regex) if "regex" in names else regex
    content = {"metrics": names, "regex": pattern, "max_tokens": max_tokens or recipe.max_tokens}
    try:
        return EvaluationSection.model_validate(content)
    except ValidationError as error:
        raise UsageError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None


def measure_policies(
    run: Run,
    names: Sequence[str],
    prompts: Sequence[Prompt],
    section: EvaluationSection,
    on_progress: OnProgress,
    *,
    trusted: bool = False,
) -> Iterator[Measured]:
    """Generate greedy answers of several policies, one after the other, and measure them.

    Args:
        names: see :func:`tspin_mlx.runs.policies.find_policy`.
        section: the metrics, and the longest answer.
        on_progress: a prompt that is answered but not yet scored counts half.
    """
    recipe: Recipe = run.recipe()
    policy = load_run(run, recipe, trusted=trusted)
    for name in names:
        folder = use_policy(policy, run, name)

        def report(done: int, tokens: int, seconds: float, name: str = name) -> None:
            on_progress(name, done, len(prompts))

        yield Measured(name, folder, *measure_policy(policy, recipe, prompts, section, report))


def measure_policy(
    policy: Policy,
    recipe: Recipe,
    prompts: Sequence[Prompt],
    section: EvaluationSection,
    on_progress: Progress = lambda done, tokens, seconds: None,
) -> tuple[dict[str, float], list[Response]]:
    """Generate a loaded policy's greedy answers and measure them; returns the measures and the answers."""
    on_answered, on_scored = in_halves(on_progress, len(prompts))
    max_tokens = section.max_tokens or recipe.generation.max_tokens
    responses = answer_greedily(policy, prompts, max_tokens, recipe.generation.batch_size, on_answered)
    measures, _ = measure(policy, prompts, responses, None, None, section, on_scored)
    return measures, responses
