"""Load a sweep file and check every run in it before the first one starts."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..base.errors import RecipeError, TspinError, UsageError
from ..data.read import Splits
from ..jobs.launch import Checked, check, read_inputs
from ..method.triplets import Prompt
from ..models.folder import ModelFolder
from ..recipe.catalog import RecipeSource, find_recipe, located, parse_source
from ..recipe.lineage import lineage, shared
from ..recipe.parse import to_override
from ..recipe.schema import check_name
from ..runs.run import Run, open_run
from .file import Combination, combinations, parse_sweep


@dataclass(frozen=True)
class Member:
    """A run of a sweep.

    Attributes:
        combination: its settings.
        checked: model, data and plan.
        lineage: of its plan, see :func:`tspin_mlx.recipe.lineage.lineage`.
    """

    combination: Combination
    checked: Checked
    lineage: dict[str, str]

    @property
    def name(self) -> str:
        """The run's name."""
        return self.combination.name

    @property
    def exists(self) -> bool:
        """Whether the run was created."""
        return self.checked.path.exists()

    @property
    def run(self) -> Run:
        """The run, which must exist."""
        return Run(self.checked.path)

    @property
    def is_finished(self) -> bool:
        """Whether the run is finished."""
        return self.exists and self.run.is_finished

    @property
    def phases(self) -> int:
        """Number of its phases."""
        return len(self.lineage)

    def shared(self, other: Member) -> list[str]:
        """List the targets that are identical in both."""
        return shared(self.lineage, other.lineage)

    def beginning(self, other: Member) -> list[str]:
        """List the shared targets at its start; later ones, such as the base model's test, are not worth a wait."""
        return list(itertools.takewhile(set(self.shared(other)).__contains__, self.lineage))


def load_sweep(file: Path, folder: Path, given: Sequence[str] = (), *, trusted: bool = False) -> list[Member]:
    """Load all runs of a sweep, and check each before anything is written.

    Args:
        file: its YAML file.
        folder: its runs are in ``folder`` / the file's name without extension.
        given: further changes to the recipe, as ``key=value``.
        trusted: whether a model's own Python code may run.

    Raises:
        TspinError: of the matching kind; it names the combination and the key.
    """
    check_name(file.stem, "runs", hint=f"rename {file}: its runs begin with its name")
    if not file.is_file():
        raise UsageError(f"{file}: no such file", hint="`tspin-mlx sweep --help` describes sweep files")
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{file}: cannot be read: {error}") from None
    sweep = parse_sweep(text, file.name)
    source = _recipe(sweep.recipe, file)
    read = functools.cache(functools.partial(read_inputs, trusted=trusted))
    members: dict[str, Member] = {}
    for combination in combinations(sweep, file.stem, given):
        member = _checked(combination, source, file, folder / file.stem, read)
        fingerprint = member.checked.plan.fingerprint
        if fingerprint in members:
            raise UsageError(
                f"{file.name}: {members[fingerprint].name} and {member.name} are the same run",
                hint="with the recipe's own values, their settings are equal: change one of them",
            )
        members[fingerprint] = member
    return list(members.values())


def _recipe(name: str, file: Path) -> RecipeSource:
    is_file = name.endswith((".yaml", ".yml")) or "/" in name
    return find_recipe(str(file.parent / Path(name).expanduser()) if is_file else name)


def _checked(
    combination: Combination,
    source: RecipeSource,
    file: Path,
    folder: Path,
    read: Callable[..., tuple[ModelFolder, Splits[Prompt]]],
) -> Member:
    own = [located(override, file.parent) for override in combination.own]
    place = [to_override("run.folder", str(folder)), to_override("run.name", combination.name)]
    try:
        checked = check(parse_source(source, [*own, *combination.given, *place]), source, read)
    except TspinError as error:
        error.message = f"{file.name}: {combination.name}: {error.message}"
        raise
    if checked.path.exists():
        try:
            open_run(checked.path, checked.plan)
        except UsageError as error:
            error.hint = "use the original settings, rename the sweep file, or remove the run's folder"
            raise
    return Member(combination, checked, lineage(checked.plan))
