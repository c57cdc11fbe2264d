"""From a recipe to a run that is ready: model, data and plan are checked before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .catalog import RecipeSource
from .data import is_remote, load_examples, render_examples
from .engine import run_plan
from .errors import TspinError, UsageError
from .events import Event
from .models import Policy, context_length, load_policy, load_tokenizer, resolve_model, vocabulary_size
from .plan import Plan, make_plan
from .recipe import Recipe
from .runs.directory import Run, create_run, data_digest, open_run
from .runs.event_log import EventLog
from .seeds import derive


@dataclass(frozen=True)
class Launch:
    """A run that can be started.

    Attributes:
        run: its folder.
        plan: what it does.
        skipped: reasons of the data rows that were left out.
    """

    run: Run
    plan: Plan
    skipped: tuple[str, ...]

    def start(self, listener: Callable[[Event], None]) -> None:
        """Do all phases that are not done; every event goes to the log and to ``listener``."""
        recipe = self.plan.recipe
        folder = resolve_model(recipe.model)

        def load() -> Policy:
            return load_policy(folder, recipe.model.dtype, recipe.lora, derive(recipe.run.seed, "lora"))

        with EventLog(self.run.events_path, listener) as log:
            try:
                run_plan(self.run, self.plan, load, log.emit)
            except TspinError as error:
                log.emit("run_failed", message=error.message)
                raise


def run_path(recipe: Recipe, source: RecipeSource) -> Path:
    """The folder of a recipe's run."""
    return Path(recipe.run.folder).expanduser() / (recipe.run.name or source.name)


def prepare(recipe: Recipe, source: RecipeSource) -> Launch:
    """Check everything a run needs, then create its folder or open the one that is there.

    Raises:
        TspinError: of the kind that fits; nothing was written.
    """
    path = run_path(recipe, source)
    if path.exists() and not (path / "run.json").exists():
        raise UsageError(f"{path}: exists and is not a run", hint="choose another name with run.name=NAME")
    examples = load_examples(recipe.data, source.path.parent, recipe.run.seed)
    model = resolve_model(recipe.model)
    prompts = render_examples(
        examples, recipe.data, load_tokenizer(model), vocabulary_size(model), context_length(model)
    )
    plan = make_plan(recipe, prompts.counts, model.fingerprint, data_digest(prompts))
    if path.exists():
        return Launch(open_run(path, plan), plan, prompts.skipped)
    about = {"name": model.name, "path": str(model.path), "fingerprint": model.fingerprint}
    run = create_run(path, plan, source.text, about, prompts)
    return Launch(run, plan, prompts.skipped)


def preview(recipe: Recipe, source: RecipeSource) -> tuple[Plan, bool]:
    """The plan as far as it can be known without the model.

    Returns:
        The plan, and whether its number of examples is assumed because a dataset on the Hub was not read.
    """
    data = recipe.data
    sources = [name for name in (data.train, data.validation, data.test) if name]
    if not any(map(is_remote, sources)):
        return make_plan(recipe, load_examples(data, source.path.parent, recipe.run.seed).counts), False
    if data.train_limit is None:
        raise UsageError(
            f"{data.train}: the number of its rows is not known before it is downloaded",
            hint="set data.train_limit to plan without it",
        )
    counts = {
        "train": data.train_limit,
        "validation": data.validation_limit or data.validation_size,
        "test": (data.test_limit or 0) if data.test else 0,
    }
    return make_plan(recipe, counts), True
