"""A run is a folder: recipe, plan, prompts and results. A phase is done if and only if its target exists."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base import filesystem
from ..base.errors import DamagedError, UsageError
from ..base.text import did_you_mean
from ..method.triplets import Prompt, prompt_from_row
from ..recipe.phase import BatchSizes, Outline, Phase, outline_from_row
from .store import REPAIR, Store

if TYPE_CHECKING:  # recipes import pydantic, which takes a quarter of a second; lists of runs do not need it
    from ..data.read import Splits
    from ..recipe.plan import Plan
    from ..recipe.schema import Recipe

#: The format of a run's folder. It changes if older versions could not read the folder, or would read it wrongly; this
#: version reads all of ``_READABLE``.
FORMAT = 2
_READABLE = (1, 2)

#: The reason of a decision that was not made after a failure.
MEASURED = "measured"

SPLITS = ("train", "validation", "test")
_MADE_AT_ONCE = ("run.json", "recipe.yaml", "plan.json", "prompts.jsonl")


@dataclass(frozen=True)
class Decision:
    """A change of batch sizes after the run was created.

    Attributes:
        reason: ``MEASURED``, or the failure after which it was made.
        sizes: used from then on.
    """

    reason: str
    sizes: BatchSizes


class Run:
    """The folder of one run.

    Args:
        path: an existing run.

    Attributes:
        store: its files.
        about: when, where and with which model it was created (``run.json``).
        outline: the plan as written when the run was created.

    Raises:
        UsageError: not a run.
        DamagedError: a run that cannot be read, or of another format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / "run.json").is_file():
            where = "" if path.parent in (Path("runs"), Path()) else f" --folder {path.parent}"
            raise UsageError(f"{path}: no such run", hint=f"`tspin-mlx runs ls{where}` lists the runs")
        self.store = Store(path)
        self.about: dict[str, Any] = self.store.read_json("run.json")
        if (stored := self.about.get("format")) not in _READABLE:
            raise DamagedError(
                f"{path}: made by another version of tspin-mlx: its folder has format {stored}, this version reads "
                f"{' and '.join(map(str, _READABLE))}"
            )
        try:
            self.outline = outline_from_row(self.store.read_json("plan.json"))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise DamagedError(f"{path / 'plan.json'} is not the plan of a run") from None

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def warm(self) -> bool:
        """Whether it has a warm-up, after which the initial policy differs from the base model."""
        return self.outline.warm

    @property
    def events_path(self) -> Path:
        """The event log."""
        return self.path / "events.jsonl"

    @property
    def engine_log(self) -> Path:
        """The log of the engine's stdout and stderr; tracebacks, mostly."""
        return self.path / "engine.log"

    @property
    def exports(self) -> Store:
        """The exports for other programs. They have their own manifest, so exporting does not need the lock."""
        return Store(self.path / "exports")

    def recipe(self) -> Recipe:
        """Return the recipe, with every default as it was when the run was created.

        Raises:
            UsageError: it has keys unknown to this version of tspin-mlx.
        """
        return self.replan().recipe

    def plan(self) -> Plan:
        """Return the plan, with the batch sizes decided since then.

        Raises:
            UsageError: this version of tspin-mlx does not know the recipe's keys, or would plan other work for it.
        """
        plan = self.replan()
        if [phase.work() for phase in plan.phases] != [phase.work() for phase in self.outline.phases]:
            raise UsageError(
                f"{self.path}: made by tspin-mlx {self._maker}, which planned this recipe differently",
                hint="finish it with that version, or start a new run with run.name=NAME",
            )
        if decisions := self.decisions():
            plan = plan.with_sizes(decisions[-1].sizes)
        return plan

    def replan(self) -> Plan:
        """Plan the run's recipe and data as this version of tspin-mlx does, regardless of the stored plan.

        Raises:
            UsageError: see :meth:`recipe`.
        """
        from pydantic import ValidationError

        from ..recipe.plan import replan

        try:
            return replan(self.outline)
        except ValidationError as error:
            key = ".".join(map(str, error.errors()[0]["loc"]))
            raise UsageError(
                f"{self.path}: made by tspin-mlx {self._maker}, whose recipes had other keys or values ({key})",
                hint="use that version, or start a new run with run.name=NAME",
            ) from None

    @property
    def _maker(self) -> str:
        return str(self.about["versions"]["tspin-mlx"])

    def decisions(self) -> list[Decision]:
        """List the decisions about batch sizes since the plan was made; the last one counts."""
        path = self.path / "decisions.jsonl"
        if not path.exists():
            return []
        try:
            rows = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
            return [Decision(row["reason"], BatchSizes.from_row(row)) for row in rows]
        except (ValueError, TypeError, KeyError):
            hint = "fix it, or start a new run with run.name=NAME"
            raise DamagedError(f"{path} cannot be read", hint=hint) from None

    def decide(self, reason: str, sizes: BatchSizes) -> None:
        """Store the batch sizes to use from now on."""
        path = self.path / "decisions.jsonl"
        filesystem.cut_torn_tail(path)
        filesystem.append_line(path, {"reason": reason, **asdict(sizes)}, sync=True)

    def pending(self) -> list[str]:
        """List the targets of the phases still to do; with ``guard.stop``, without iterations after a collapse."""
        last = self.last_iteration()
        return [
            phase.target
            for phase in self.outline.phases
            if not self.store.has(phase.target) and (last is None or (phase.iteration or 0) <= last)
        ]

    def last_iteration(self) -> int | None:
        """Return the iteration that collapsed, after which ``guard.stop`` ends self-play; None if none did."""
        if not self.outline.settings.get("guard.stop"):
            return None
        collapsed = (p.iteration for p in self._evaluations() if p.iteration is not None and self._has_collapsed(p))
        return min(collapsed, default=None)

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return not self.pending()

    def recover(self) -> None:
        """Clean up after a crash. Only for the holder of the run's lock."""
        self.store.recover()
        for phase in self.outline.train_phases:
            checkpoints = checkpoints_of(phase.target)
            if self.store.has(phase.target) and self.store.has(checkpoints):
                self.store.remove(checkpoints)

    def verify(self) -> None:
        """Check all finished files against their sha256.

        Raises:
            DamagedError: some have changed; the message names them.
        """
        targets = [phase.target for phase in self.outline.phases]
        names = [*_MADE_AT_ONCE, *filter(self.store.has, targets)]
        damaged = [file for name in names for file in self.store.damaged(name)]
        if damaged:
            more = f" (and {len(damaged) - 3} more)" if len(damaged) > 3 else ""
            raise DamagedError(
                f"{self.path}: files have changed since they were written: {', '.join(damaged[:3])}{more}",
                hint=REPAIR,
            )

    def prompts(self) -> Splits[Prompt]:
        """Read the tokenised examples."""
        from ..data.read import Splits

        parts: dict[str, list[Prompt]] = {name: [] for name in SPLITS}
        for row in self.store.read_jsonl("prompts.jsonl"):
            parts[row.pop("split")].append(prompt_from_row(row))
        return Splits(tuple(parts["train"]), tuple(parts["validation"]), tuple(parts["test"]))

    def system_prompt(self) -> str | None:
        """Return the system prompt of the training examples, if they all have the same."""
        systems = {prompt.system for prompt in self.prompts().train}
        return systems.pop() if len(systems) == 1 else None

    def evaluated(self) -> list[str]:
        """List the folders of the policies evaluated so far, in their order."""
        return [phase.policy for phase in self._evaluations()]

    def evaluation(self, policy: str) -> dict[str, Any]:
        """Read ``eval.json`` of one of them."""
        content: dict[str, Any] = self.store.read_json(f"{policy}/eval.json")
        return content

    def evaluations(self) -> dict[str, dict[str, Any]]:
        """Read ``eval.json`` of every policy evaluated so far, by the policy's folder, in their order."""
        return {policy: self.evaluation(policy) for policy in self.evaluated()}

    def result(self) -> dict[str, Any] | None:
        """Read which policy was chosen, and why; None before the end."""
        return self.store.read_json("result.json") if self.store.has("result.json") else None

    def test(self) -> dict[str, dict[str, Any]] | None:
        """Read the results on test examples by policy folder (base, initial and chosen); None if there are none yet."""
        if not self.store.has("test.json"):
            return None
        phases = [phase for phase in self.outline.phases if phase.kind == "test"]
        tested = {phase.policy: self.store.read_json(phase.target) for phase in phases}
        chosen = self.store.read_json("test.json")
        return {**tested, chosen.pop("policy"): chosen}

    def _evaluations(self) -> list[Phase]:
        phases = self.outline.phases
        return [phase for phase in phases if phase.kind == "evaluate" and self.store.has(phase.target)]

    def _has_collapsed(self, phase: Phase) -> bool:
        return bool(self.store.read_json(phase.target)["signs_of_collapse"])


def checkpoints_of(target: str) -> str:
    """Return the checkpoint folder of the phase with this target; both relative to the run."""
    return (Path(target).parent / "checkpoints").as_posix()


def open_run(path: Path, plan: Plan) -> Run:
    """Open an existing run, if it has this plan.

    Raises:
        UsageError: the run has another recipe, model or data; the message lists the differences.
    """
    run = Run(path)
    if differences := _differences(run.outline, run.recipe(), plan):
        raise UsageError(
            "\n  ".join([f"the run {run.name!r} was made with other settings:", *differences]),
            hint="start a new run that reuses the results still valid with --fork NAME, or use the original settings",
        )
    run.plan()  # refuses a run that this version plans differently
    return run


def find_run(name: str, folder: Path) -> Run:
    """Find a run by its name in ``folder``, or by its path.

    Raises:
        UsageError: no such run, or a name that leads elsewhere.
    """
    path = named_path(name, folder)
    if not path.exists() and (nearest := did_you_mean(path.name, [run.name for run in run_paths(path.parent)])):
        raise UsageError(f"{path}: no such run", hint=f"did you mean {nearest}?")
    return Run(path)


def named_path(name: str, folder: Path) -> Path:
    """Return the path of a name: in ``folder``, unless the name is a path itself.

    Raises:
        UsageError: not a valid name, or it leads elsewhere.
    """
    name = name.rstrip("/")  # added by shell completion
    try:
        path = Path(name).expanduser() if "/" in name else folder / name
        leads_elsewhere = name in (".", "..", "") or path.is_symlink()
    except (OSError, RuntimeError):  # too long; the home of an unknown user
        leads_elsewhere = True
    if leads_elsewhere:
        raise UsageError(f"{name!r} is not the name or path of a run", hint="`tspin-mlx runs ls` lists the runs")
    return path


def run_paths(folder: Path) -> list[Path]:
    """List the runs in a folder, by name."""
    paths = [path.parent for path in folder.glob("*/run.json")]
    return sorted(path for path in paths if not path.name.startswith(".") and not path.is_symlink())


def _differences(before: Outline, recipe: Recipe, now: Plan) -> list[str]:
    """Describe every difference that can change a result, a line each."""
    from ..recipe.plan import NO_INFLUENCE

    old, new = recipe.settings, now.recipe.settings
    changed = [key for key in new if old[key] != new[key] and key not in NO_INFLUENCE]
    width = max(map(len, changed), default=0)
    lines = [f"{key:<{width}}  {_plain(old[key])} → {_plain(new[key])}" for key in changed]
    if (before.data_digests, before.counts) != (now.data_digests, now.counts):
        lines.append("the data files have changed")
    if before.model_fingerprint != now.model_fingerprint:
        lines.append("the model's files have changed")
    return lines


def _plain(value: Any) -> str:
    return "null" if value is None else json.dumps(value, ensure_ascii=False)
