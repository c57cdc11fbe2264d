"""Prepare a run from a recipe: check model, data and plan before anything is written, then create the run."""

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
    """A run that is ready to start.

    Attributes:
        run: its folder.
        skipped: reasons for the skipped data rows.
        samples: how many answers its recipe, as it is now, has the result show.
    """

    run: Run
    skipped: tuple[str, ...]
    samples: int


@dataclass(frozen=True)
class Checked:
    """A run that can be created.

    Attributes:
        path: its folder.
        source: its recipe.
        model: on disk.
        prompts: the tokenised examples.
        plan: all its phases.
    """

    path: Path
    source: RecipeSource
    model: ModelFolder
    prompts: Splits[Prompt]
    plan: Plan


def run_path(recipe: Recipe, source: RecipeSource) -> Path:
    """Return the folder of a recipe's run.

    Raises:
        UsageError: the name is not valid for a run, or is taken by something else.
    """
    name = recipe.run.name or source.name
    check_name(name, "a run", hint="set run.name=NAME")
    path = user_path(str(Path(recipe.run.folder) / name))
    if path.is_symlink() or (path.exists() and not (path / "run.json").exists()):
        raise UsageError(f"{path} exists and is not a run", hint="choose another name with run.name=NAME")
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
    """Check everything a run needs, then create its folder or open the existing one.

    Args:
        origin: a run whose valid results a new run reuses.
        trusted: whether the model's own Python code may run.
        on_stage: called with each next stage that takes a while, in words.

    Raises:
        TspinError: of the matching kind; nothing was written.
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
    """Locate a run's model on disk, and read and tokenise its examples.

    Args:
        folder: of the recipe.

    Raises:
        TspinError: of the matching kind.
    """
    examples = load_examples(data, folder, seed)
    local = resolve_model(model, trusted=trusted, on_stage=on_stage)
    return local, render_examples(examples, data, load_tokenizer(local), vocabulary_size(local), context_length(local))


def check(recipe: Recipe, source: RecipeSource, read: Callable[..., tuple[ModelFolder, Splits[Prompt]]]) -> Checked:
    """Check everything a run needs, before anything is written.

    Args:
        read: :func:`read_inputs`, or a cached version of it.

    Raises:
        TspinError: of the matching kind.
    """
    path = run_path(recipe, source)
    model, prompts = read(recipe.model, recipe.data, source.path.parent, recipe.run.seed)
    plan = make_plan(recipe, prompts.counts, model.fingerprint, data_digests(prompts))
    return Checked(path, source, model, prompts, plan)


def make(checked: Checked, origin: Run | None = None) -> Launch:
    """Create a run's folder, or open the existing one.

    Raises:
        UsageError: the existing run was made with other settings.
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
    """A plan made without the model.

    Attributes:
        plan: all phases.
        assumed: whether the number of examples is assumed, because a dataset on the Hub was not read.
        skipped: reasons for the skipped data rows.
    """

    plan: Plan
    assumed: bool
    skipped: tuple[str, ...] = ()


def preview(recipe: Recipe, source: RecipeSource) -> Preview:
    """Plan a recipe without loading the model.

    Raises:
        UsageError: the data is on the Hub, which is not read, and the recipe does not limit the number of examples.
    """
    data = recipe.data
    remote = [source for source in data.sources.values() if is_remote(source)]
    if not remote:
        examples = load_examples(data, source.path.parent, recipe.run.seed)
        return Preview(make_plan(recipe, examples.counts), False, examples.skipped)
    limits = {"train": data.train_limit, "validation": data.validation_limit, "test": data.test_limit}
    if open_ended := [f"data.{part}_limit" for part in data.sources if limits[part] is None]:
        raise UsageError(
            f"{remote[0]} is not downloaded for a plan: the recipe must give the number of examples",
            hint=f"set {' and '.join(open_ended)}",
        )
    counts = {part: limits[part] or 0 if part in data.sources else 0 for part in limits}
    if not data.validation:
        counts["validation"] = min(data.validation_size, data.validation_limit or data.validation_size)
    return Preview(make_plan(recipe, counts), True)
