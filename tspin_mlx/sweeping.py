"""Works through a sweep: checks all its runs, then starts them, a few at a time, so that nothing is made twice."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Literal

from .catalog import RecipeSource, find_recipe, located, parse_source
from .control import resume
from .data import Splits
from .errors import RecipeError, TspinError, UsageError
from .launch import Checked, check, make, read_inputs
from .lineage import lineage
from .models import ModelFolder
from .recipe import SAFE_NAME
from .runs.directory import Run, open_run
from .runs.event_log import last_events
from .runs.lock import is_held
from .sweep import Combination, combinations, parse_sweep
from .triplets import Prompt

#: What can happen to a run. ``joined``: another process works on it, and this one waits for its end.
What = Literal["started", "resumed", "joined", "finished", "stopped", "failed"]

_PAUSE_S = 0.1


@dataclass(frozen=True)
class Member:
    """A run of a sweep.

    Attributes:
        combination: its settings.
        checked: what it needs.
        lineage: of its plan, see :func:`tspin_mlx.lineage.lineage`.
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
        """Whether the run was made."""
        return self.checked.path.exists()

    @property
    def run(self) -> Run:
        """The run, which must exist."""
        return Run(self.checked.path)

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.exists and self.run.is_finished

    def shared(self, other: Member) -> list[str]:
        """Targets that both make alike."""
        return [target for target, digest in self.lineage.items() if other.lineage.get(target) == digest]


@dataclass(frozen=True)
class Change:
    """What has happened to a run.

    Attributes:
        member: the run.
        what: happened.
        elapsed_s: since this process began with it.
        detail: why it failed, or what it took over.
        hint: the next step after a failure.
        exit_code: of a run that ended.
    """

    member: Member
    what: What
    elapsed_s: float = 0.0
    detail: str = ""
    hint: str | None = None
    exit_code: int = 0


def load_sweep(file: Path, folder: Path, given: Sequence[str] = (), *, trusted: bool = False) -> list[Member]:
    """All runs of a sweep, every one checked before anything is written.

    Args:
        file: its YAML file; its runs are in ``folder`` / the file's name without ending.
        given: changes of the recipe beside those of the file, as ``key=value``.
        trusted: code that comes with a model may run.

    Raises:
        TspinError: of the kind that fits; it names the combination and the key.
    """
    if not re.fullmatch(SAFE_NAME, file.stem):
        raise UsageError(f"{file}: its name names the runs: letters, digits, '.', '_' and '-' only")
    if not file.is_file():
        raise UsageError(f"{file}: no such file", hint="`tspin-mlx sweep --help` shows how one begins")
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
            raise UsageError(f"{file.name}: {members[fingerprint].name} and {member.name} are the same run")
        members[fingerprint] = member
    return list(members.values())


class Worker:
    """Works through the runs of a sweep.

    Args:
        members: all its runs.
        jobs: how many at once.
        tell: hears of every change.
        trusted: code that comes with a model may run.
    """

    def __init__(
        self, members: Sequence[Member], jobs: int, tell: Callable[[Change], None], *, trusted: bool = False
    ) -> None:
        self._members, self._jobs, self._tell, self._trusted = members, jobs, tell, trusted
        self._waiting = [member for member in members if not member.is_finished]
        self._working: dict[str, _Work] = {}

    def paths(self) -> list[Path]:
        """Folders of the runs that are under way."""
        return [work.run.path for work in list(self._working.values())]

    def work(self, stopping: Callable[[], bool]) -> None:
        """Return when every run has ended, or those under way have after ``stopping`` said so."""
        while True:
            for work in [work for work in self._working.values() if not work.is_alive()]:
                del self._working[work.member.name]
                self._tell(_ending(work))
            while len(self._working) < self._jobs and not stopping() and (member := self._next()):
                self._waiting.remove(member)
                self._begin(member)
            if not self._working and (stopping() or not self._waiting):
                return
            time.sleep(_PAUSE_S)

    def _next(self) -> Member | None:
        """The first run that would not make what another one is just making."""
        return next((member for member in self._waiting if not self._should_wait(member)), None)

    def _should_wait(self, member: Member) -> bool:
        if member.exists:
            return False
        return any(set(member.shared(work.member)) & set(work.run.pending()) for work in self._working.values())

    def _begin(self, member: Member) -> None:
        begun = time.monotonic()
        try:
            what: What = "resumed" if member.exists else "started"
            if is_held(member.checked.path):
                what, run, engine, detail = "joined", member.run, None, ""
            else:
                run = make(member.checked, None if member.exists else self._origin(member)).run
                detail = _taken_over(run) if what == "started" else ""
                engine = resume(run, trusted=self._trusted)
        except TspinError as error:
            self._tell(Change(member, "failed", 0.0, error.message, error.hint, error.exit_code))
            return
        self._working[member.name] = _Work(member, run, engine, begun)
        self._tell(Change(member, what, detail=detail))

    def _origin(self, member: Member) -> Run | None:
        """The run that has done most of what this one would do alike."""
        best, most = None, 0
        for other in self._members:
            if other.exists:
                run = other.run
                count = sum(map(run.store.has, member.shared(other)))
                if count > most:
                    best, most = run, count
        return best


@dataclass(frozen=True)
class _Work:
    member: Member
    run: Run
    engine: Popen[bytes] | None
    begun: float

    def is_alive(self) -> bool:
        if self.engine is None:
            return is_held(self.run.path)
        return self.engine.poll() is None


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
    place = [f"run.folder={folder}", f"run.name={combination.name}"]
    try:
        checked = check(parse_source(source, [*own, *combination.given, *place]), source, read)
        if checked.path.exists():
            open_run(checked.path, checked.plan)
    except TspinError as error:
        error.message = f"{file.name}: {combination.name}: {error.message}"
        raise
    return Member(combination, checked, lineage(checked.plan))


def _taken_over(run: Run) -> str:
    origin = run.about["forked_from"]
    if origin is None:
        return ""
    return f"{len(origin['reused'])} of {len(run.plan_row['phases'])} phases from {origin['run']}"


def _ending(work: _Work) -> Change:
    run, elapsed = work.run, time.monotonic() - work.begun
    if run.is_finished:
        return Change(work.member, "finished", elapsed)
    last = (last_events(run.events_path) or [{"kind": ""}])[-1]
    if last["kind"] == "run_failed":
        return Change(work.member, "failed", elapsed, last["message"], last["hint"], last["exit_code"])
    if last["kind"] == "run_stopped":
        return Change(work.member, "stopped", elapsed, exit_code=last["exit_code"])
    return Change(work.member, "failed", elapsed, f"ended without a word; its log is {run.engine_log}", exit_code=1)
