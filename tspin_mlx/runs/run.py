"""A run is a folder. What has its final name in it is done; nothing else says so."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base import storage
from ..base.errors import DamagedError, UsageError
from ..base.text import did_you_mean
from ..method.triplets import Prompt, prompt_from_row
from ..recipe.phase import BatchSizes, Outline, Phase, outline_from_row
from .store import REPAIR, Store

if TYPE_CHECKING:  # recipes bring pydantic, which takes a quarter of a second to load; lists of runs do without
    from ..data.read import Splits
    from ..recipe.plan import Plan
    from ..recipe.schema import Recipe

#: The format of a run's folder. It gets another number wherever an older version could not read it, or would read it
#: wrongly; this version reads all of ``_READABLE``.
FORMAT = 2
_READABLE = (1, 2)

#: The reason of a decision that no failure has led to.
MEASURED = "measured"

SPLITS = ("train", "validation", "test")
_MADE_AT_ONCE = ("run.json", "recipe.yaml", "plan.json", "prompts.jsonl")


@dataclass(frozen=True)
class Decision:
    """What a run came to compute at once.

    Attributes:
        reason: ``MEASURED``, or the failure after which it was made.
        sizes: from then on.
    """

    reason: str
    sizes: BatchSizes


class Run:
    """The folder of one run.

    Args:
        path: an existing run.

    Attributes:
        store: its files.
        about: when, where and on which model it was made (``run.json``).
        outline: the plan as it was written when the run was made.

    Raises:
        UsageError: not a run.
        DamagedError: a run that cannot be read, or of another format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / "run.json").is_file():
            where = "" if path.parent in (Path("runs"), Path()) else f" --folder {path.parent}"
            raise UsageError(f"{path}: no such run", hint=f"`tspin-mlx runs ls{where}` lists them")
        self.store = Store(path)
        self.about: dict[str, Any] = self.store.read_json("run.json")
        if (made := self.about.get("format")) not in _READABLE:
            raise DamagedError(
                f"{path}: made by another version of tspin-mlx: its folder has format {made}, this one reads "
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
        """Whether it has a warm-up, after which the initial policy is not the model as it came."""
        return self.outline.warm

    @property
    def events_path(self) -> Path:
        """The event log."""
        return self.path / "events.jsonl"

    @property
    def engine_log(self) -> Path:
        """What the engine's process wrote on its outputs; tracebacks, mostly."""
        return self.path / "engine.log"

    @property
    def exports(self) -> Store:
        """What was made of the run for other programs. It has a manifest of its own: no lock is needed to export."""
        return Store(self.path / "exports")

    def recipe(self) -> Recipe:
        """The recipe, with every default as it was when the run was made.

        Raises:
            UsageError: it has keys that this version of tspin-mlx does not know.
        """
        return self.replan().recipe

    def plan(self) -> Plan:
        """The plan, with what was decided since about the sizes of batches.

        Raises:
            UsageError: this version of tspin-mlx does not know the recipe's keys, or would plan other work for it.
        """
        plan = self.replan()
        if [phase.work() for phase in plan.phases] != [phase.work() for phase in self.outline.phases]:
            raise UsageError(
                f"{self.path}: made by tspin-mlx {self._maker}, which planned other work for this recipe",
                hint="finish it with that version, or start it anew with run.name=NAME",
            )
        if decisions := self.decisions():
            plan = plan.with_sizes(decisions[-1].sizes)
        return plan

    def replan(self) -> Plan:
        """Plan the run's recipe and data as this version of tspin-mlx does, whatever was planned when it was made.

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
                f"{self.path}: made by tspin-mlx {self._maker}, whose recipes were others ({key})",
                hint="use that version for it, or start it anew with run.name=NAME",
            ) from None

    @property
    def _maker(self) -> str:
        return str(self.about["versions"]["tspin-mlx"])

    def decisions(self) -> list[Decision]:
        """What was decided about sizes since the plan was made; the last one counts."""
        path = self.path / "decisions.jsonl"
        if not path.exists():
            return []
        try:
            rows = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
            return [Decision(row["reason"], BatchSizes.from_row(row)) for row in rows]
        except (ValueError, TypeError, KeyError):
            raise DamagedError(f"{path} cannot be read", hint="fix it, or start anew with run.name=NAME") from None

    def decide(self, reason: str, sizes: BatchSizes) -> None:
        """Continue with these sizes from now on."""
        path = self.path / "decisions.jsonl"
        storage.cut_torn_tail(path)
        storage.append_line(path, {"reason": reason, **asdict(sizes)}, sync=True)

    def pending(self) -> list[str]:
        """Targets of the phases that are still to do; iterations after a collapse are not, if the recipe says so."""
        last = self.last_iteration()
        return [
            phase.target
            for phase in self.outline.phases
            if not self.store.has(phase.target) and (last is None or (phase.iteration or 0) <= last)
        ]

    def last_iteration(self) -> int | None:
        """The iteration after which self-play ends since it collapsed, with ``guard.stop``; None if none has."""
        if not self.outline.settings.get("guard.stop"):
            return None
        collapsed = (p.iteration for p in self._evaluations() if p.iteration is not None and self._has_collapsed(p))
        return min(collapsed, default=None)

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return not self.pending()

    def recover(self) -> None:
        """After a crash: tidy away what it left half-done. For the holder of the run's lock only."""
        self.store.recover()
        for phase in self.outline.train_phases:
            checkpoints = checkpoints_of(phase.target)
            if self.store.has(phase.target) and self.store.has(checkpoints):
                self.store.remove(checkpoints)

    def verify(self) -> None:
        """Compare everything that is done with what was written.

        Raises:
            DamagedError: names the files that differ.
        """
        targets = [phase.target for phase in self.outline.phases]
        names = [*_MADE_AT_ONCE, *filter(self.store.has, targets)]
        damaged = [file for name in names for file in self.store.damaged(name)]
        if damaged:
            more = f" (and {len(damaged) - 3} more)" if len(damaged) > 3 else ""
            raise DamagedError(
                f"{self.path}: not what was written there: {', '.join(damaged[:3])}{more}",
                hint=REPAIR,
            )

    def prompts(self) -> Splits[Prompt]:
        """The rendered examples."""
        from ..data.read import Splits

        parts: dict[str, list[Prompt]] = {name: [] for name in SPLITS}
        for row in self.store.read_jsonl("prompts.jsonl"):
            parts[row.pop("split")].append(prompt_from_row(row))
        return Splits(tuple(parts["train"]), tuple(parts["validation"]), tuple(parts["test"]))

    def system_prompt(self) -> str | None:
        """The system prompt that all training examples have, if it is the same."""
        found = {prompt.system for prompt in self.prompts().train}
        return found.pop() if len(found) == 1 else None

    def evaluated(self) -> list[str]:
        """Folders of the policies measured so far, in their order."""
        return [phase.policy for phase in self._evaluations()]

    def evaluation(self, policy: str) -> dict[str, Any]:
        """``eval.json`` of one of them."""
        content: dict[str, Any] = self.store.read_json(f"{policy}/eval.json")
        return content

    def evaluations(self) -> dict[str, dict[str, Any]]:
        """``eval.json`` of every policy measured so far, by the policy's folder, in their order."""
        return {policy: self.evaluation(policy) for policy in self.evaluated()}

    def result(self) -> dict[str, Any] | None:
        """Which policy was chosen, and why; None before the end."""
        return self.store.read_json("result.json") if self.store.has("result.json") else None

    def test(self) -> dict[str, dict[str, Any]] | None:
        """Measures and answers on the test examples by the policy's folder: the base model, the initial policy and the
        chosen one; None before the end or without such examples."""
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
    """The folder of the checkpoints of the phase that makes ``target``; both relative to the run."""
    return (Path(target).parent / "checkpoints").as_posix()


def open_run(path: Path, plan: Plan) -> Run:
    """An existing run, if it is one of this plan.

    Raises:
        UsageError: the run was made from another recipe, model or data; the differences are named.
    """
    run = Run(path)
    if differences := _differences(run.outline, run.recipe(), plan):
        raise UsageError(
            "\n  ".join([f"the run {run.name!r} was made with other settings:", *differences]),
            hint="start a new run, which keeps what is still valid, with --fork NAME; or give the settings it was "
            "made with",
        )
    run.plan()  # refuses a run that this version plans otherwise
    return run


def find_run(name: str, folder: Path) -> Run:
    """A run by its name in ``folder``, or by its path.

    Raises:
        UsageError: no such run, or a name that leads elsewhere.
    """
    path = named_path(name, folder)
    if not path.exists() and (nearest := did_you_mean(path.name, [run.name for run in run_paths(path.parent)])):
        raise UsageError(f"{path}: no such run", hint=f"did you mean {nearest}?")
    return Run(path)


def named_path(name: str, folder: Path) -> Path:
    """Where something of this name is: in ``folder``, unless the name is a path itself.

    Raises:
        UsageError: it cannot be a name of ours, or leads elsewhere.
    """
    name = name.rstrip("/")  # of a completed word
    try:
        path = Path(name).expanduser() if "/" in name else folder / name
        leads_elsewhere = name in (".", "..", "") or path.is_symlink()
    except (OSError, RuntimeError):  # longer than a name can be; nobody's home
        leads_elsewhere = True
    if leads_elsewhere:
        raise UsageError(f"{name!r} is not the name or the path of a run", hint="`tspin-mlx runs ls` lists them")
    return path


def run_paths(folder: Path) -> list[Path]:
    """The runs in a folder, by name."""
    found = [path.parent for path in folder.glob("*/run.json")]
    return sorted(path for path in found if not path.name.startswith(".") and not path.is_symlink())


def _differences(before: Outline, recipe: Recipe, now: Plan) -> list[str]:
    """Lines that name everything that differs and can change a result."""
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
