"""From a recipe to a run that is ready: model, data and plan are checked before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..base.errors import UsageError
from ..base.paths import user_path
from ..data.read import Splits, is_remote, load_examples, render_examples
from ..method.triplets import Prompt
from ..models.folder import ModelFolder, context_length, load_tokenizer, resolve_model, vocabulary_size
from ..recipe.catalog import RecipeSource, find_recipe, parse_source
from ..recipe.parse import to_override
from ..recipe.plan import Plan, make_plan
from ..recipe.schema import DataSection, ModelSection, Recipe, check_name
from ..runs.create import create_run, data_digests
from ..runs.lock import busy, is_held
from ..runs.run import Run, open_run


@dataclass(frozen=True)
class Launch:
    """A run that can be started.

    Attributes:
        run: its folder.
        skipped: reasons of the data rows that were left out.
        samples: how many answers its recipe, as it is now, has the result show.
    """

    run: Run
    skipped: tuple[str, ...]
    samples: int


@dataclass(frozen=True)
class Checked:
    """A run that can be made.

    Attributes:
        path: its folder.
        source: its recipe.
        model: on disk.
        prompts: the rendered examples.
        plan: what it is to do.
    """

    path: Path
    source: RecipeSource
    model: ModelFolder
    prompts: Splits[Prompt]
    plan: Plan


def run_path(recipe: Recipe, source: RecipeSource) -> Path:
    """The folder of a recipe's run.

    Raises:
        UsageError: the recipe's name does not do as a name of a run, or the name is taken by something else.
    """
    name = recipe.run.name or source.name
    check_name(name, "a run", hint="set run.name=NAME")
    path = user_path(str(Path(recipe.run.folder) / name))
    if path.is_symlink() or (path.exists() and not (path / "run.json").exists()):
        raise UsageError(f"{path}: exists and is not a run", hint="choose another name with run.name=NAME")
    return path


def launch(
    name: str,
    overrides: Sequence[str],
    *,
    fork: str | None = None,
    trusted: bool = False,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Launch:
    """Prepare the run of a recipe, unless somebody works on it already.

    Args:
        name: of the recipe, or its file.
        overrides: changes of the recipe, as ``key=value``.
        fork: make a new run of this name, which takes over what is still valid of the recipe's own.

    Raises:
        BusyError: a process works on the run.
        TspinError: see :func:`prepare`.
    """
    source = find_recipe(name)
    recipe = parse_source(source, [*overrides])
    on_stage(f"model    {recipe.model.path}")
    path, origin = run_path(recipe, source), None
    if fork is not None:
        origin = Run(path)
        recipe = parse_source(source, [*overrides, to_override("run.name", fork)])
        path = run_path(recipe, source)
        if path == origin.path:
            raise UsageError(f"--fork {fork}: the new run needs another name than the old one")
    if is_held(path):
        raise busy(path)
    return prepare(recipe, source, origin=origin, trusted=trusted, on_stage=on_stage)


def prepare(
    recipe: Recipe,
    source: RecipeSource,
    *,
    origin: Run | None = None,
    trusted: bool = False,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Launch:
    """Check everything a run needs, then create its folder or open the one that is there.

    Args:
        origin: when a new run is made, a run to take over what is still valid of.
        trusted: code that comes with the model may run.
        on_stage: hears what is done next, where it takes a while.

    Raises:
        TspinError: of the kind that fits; nothing was written.
    """
    return make(check(recipe, source, partial(read_inputs, trusted=trusted, on_stage=on_stage)), origin)


def read_inputs(
    model: ModelSection,
    data: DataSection,
    folder: Path,
    seed: int,
    *,
    trusted: bool,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> tuple[ModelFolder, Splits[Prompt]]:
    """What a run works on: its model on disk, and its examples rendered for it.

    Args:
        folder: of the recipe.

    Raises:
        TspinError: of the kind that fits.
    """
    examples = load_examples(data, folder, seed)
    found = resolve_model(model, trusted=trusted, on_stage=on_stage)
    return found, render_examples(examples, data, load_tokenizer(found), vocabulary_size(found), context_length(found))


def check(recipe: Recipe, source: RecipeSource, read: Callable[..., tuple[ModelFolder, Splits[Prompt]]]) -> Checked:
    """Everything a run needs, before anything is written.

    Args:
        read: :func:`read_inputs`, or something that remembers what it gave.

    Raises:
        TspinError: of the kind that fits.
    """
    path = run_path(recipe, source)
    model, prompts = read(recipe.model, recipe.data, source.path.parent, recipe.run.seed)
    plan = make_plan(recipe, prompts.counts, model.fingerprint, data_digests(prompts))
    return Checked(path, source, model, prompts, plan)


def make(checked: Checked, origin: Run | None = None) -> Launch:
    """Create a run's folder, or open the one that is there.

    Raises:
        UsageError: the one that is there was made with other settings.
        StorageError: it could not be written; nothing was.
    """
    path, model, prompts, plan = checked.path, checked.model, checked.prompts, checked.plan
    samples = plan.recipe.evaluation.samples
    if path.exists():
        return Launch(open_run(path, plan), prompts.skipped, samples)
    about = {"name": model.name, "path": str(model.path), "fingerprint": model.fingerprint}
    run = create_run(path, plan, checked.source.text, about, prompts, origin, checked.source.path)
    return Launch(run, prompts.skipped, samples)


@dataclass(frozen=True)
class Preview:
    """A plan as far as it can be known without the model.

    Attributes:
        plan: of the examples that were read.
        assumed: their number is, because a dataset on the Hub was not read.
        skipped: reasons of the data rows that were left out.
    """

    plan: Plan
    assumed: bool
    skipped: tuple[str, ...] = ()


def preview(recipe: Recipe, source: RecipeSource) -> Preview:
    """What a recipe would do, without the model.

    Raises:
        UsageError: a dataset on the Hub is not read for that, and the recipe does not say how many examples it takes.
    """
    data = recipe.data
    remote = [source for source in data.sources.values() if is_remote(source)]
    if not remote:
        examples = load_examples(data, source.path.parent, recipe.run.seed)
        return Preview(make_plan(recipe, examples.counts), False, examples.skipped)
    limits = {"train": data.train_limit, "validation": data.validation_limit, "test": data.test_limit}
    if open_ended := [f"data.{part}_limit" for part in data.sources if limits[part] is None]:
        raise UsageError(
            f"{remote[0]} is not downloaded for a plan: how many examples there are has to be in the recipe",
            hint=f"set {' and '.join(open_ended)}",
        )
    counts = {part: limits[part] or 0 if part in data.sources else 0 for part in limits}
    if not data.validation:
        counts["validation"] = min(data.validation_size, data.validation_limit or data.validation_size)
    return Preview(make_plan(recipe, counts), True)
