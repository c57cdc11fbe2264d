"""Measure any policies of a finished or unfinished run, on its held-out examples or on others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..base.progress import in_halves
from ..data.read import read_prompts
from ..method.triplets import Prompt, Response
from ..models.folder import context_length, load_tokenizer, vocabulary_size
from ..models.of_run import find_model, load_run, use_policy
from ..recipe.schema import EvaluationSection, Recipe
from ..runs.run import Run
from .measure import answer_greedily, measure

#: Called with a policy's name, how much is done and all there is: each prompt is answered, then scored.
OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Measured:
    """What a policy is worth.

    Attributes:
        name: of the policy, as it was asked for.
        folder: of the policy.
        metrics: see :func:`tspin_mlx.evaluation.measure.measure`.
        responses: its greedy answers, in the order of the prompts.
    """

    name: str
    folder: str
    metrics: dict[str, float]
    responses: list[Response]


def held_out_prompts(run: Run, source: str | None, limit: int | None, *, trusted: bool = False) -> tuple[Prompt, ...]:
    """The examples to measure on.

    Args:
        source: a file or dataset, read as the recipe reads its data; None takes the run's validation examples.
        limit: only the first so many.

    Raises:
        DataError: a row that cannot be used (unless the recipe has ``data.skip_bad_rows``).
        SetupError, HubError: the model's tokenizer cannot be had.
    """
    if source is None:
        return run.prompts().validation[:limit]
    recipe = run.recipe()
    model = find_model(run, recipe, trusted=trusted)
    prompts, _ = read_prompts(source, recipe.data, load_tokenizer(model), vocabulary_size(model), context_length(model))
    return prompts[:limit]


def measure_policies(
    run: Run,
    names: Sequence[str],
    prompts: Sequence[Prompt],
    section: EvaluationSection,
    on_progress: OnProgress,
    *,
    trusted: bool = False,
) -> Iterator[Measured]:
    """Let policies answer greedily, one after the other, and measure them.

    Args:
        names: see :func:`tspin_mlx.runs.policies.find_policy`.
        section: the metrics, and the longest answer.
        on_progress: a prompt that is answered and not yet scored counts half.
    """
    recipe: Recipe = run.recipe()
    policy = load_run(run, recipe, trusted=trusted)
    max_tokens = section.max_tokens or recipe.generation.max_tokens
    for name in names:
        folder = use_policy(policy, run, name)

        def report(done: int, tokens: int, seconds: float, name: str = name) -> None:
            on_progress(name, done, len(prompts))

        on_answered, on_scored = in_halves(report, len(prompts))
        responses = answer_greedily(policy, prompts, max_tokens, recipe.generation.batch_size, on_answered)
        measures, _ = measure(policy, prompts, responses, None, None, section, on_scored)
        yield Measured(name, folder, measures, responses)
