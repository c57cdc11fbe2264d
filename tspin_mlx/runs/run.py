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
from .store import REPAIR, Store

if TYPE_CHECKING:  # recipes bring pydantic, which a look at runs need not load
    from ..data.read import Splits
    from ..recipe.plan import BatchSizes, Plan
    from ..recipe.schema import Recipe

#: Of a run's folder; another number wherever an older version could not read it, or would read it wrongly.
FORMAT = 1

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
        plan_row: the plan as it was written when the run was made.

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
        if (found := self.about.get("format")) != FORMAT:
            raise DamagedError(
                f"{path}: made by another version of tspin-mlx: its folder has format {found}, this one reads {FORMAT}"
            )
        self.plan_row: dict[str, Any] = self.store.read_json("plan.json")

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def warm(self) -> bool:
        """Whether it has a warm-up, after which the initial policy is not the model as it came."""
        return bool(self.plan_row["recipe"]["warmup"]["epochs"])

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
            UsageError: see :meth:`planned`.
        """
        return self.planned().recipe

    def planned(self) -> Plan:
        """What this version of tspin-mlx plans for the run's recipe and data, whatever was planned when it was made.

        Raises:
            UsageError: the recipe has keys that this version does not know.
        """
        from pydantic import ValidationError

        from ..recipe.plan import plan_from_row

        try:
            return plan_from_row(self.plan_row)
        except ValidationError as error:
            key, maker = ".".join(map(str, error.errors()[0]["loc"])), self.about["versions"]["tspin-mlx"]
            raise UsageError(
                f"{self.path}: made by tspin-mlx {maker}, whose recipes were others ({key})",
                hint="use that version for it, or start it anew with run.name=NAME",
            ) from None

    def plan(self) -> Plan:
        """The plan, with what was decided since about the sizes of batches.

        Raises:
            UsageError: this version of tspin-mlx would plan the run otherwise.
        """
        plan = self.planned()
        if plan.fingerprint != self.about["fingerprint"]:
            raise UsageError(
                f"{self.path}: made by tspin-mlx {self.about['versions']['tspin-mlx']}, which planned it otherwise",
                hint="finish it with that version, or start it anew with run.name=NAME",
            )
        if decisions := self.decisions():
            plan = plan.with_sizes(decisions[-1].sizes)
        return plan

    def decisions(self) -> list[Decision]:
        """What was decided about sizes since the plan was made; the last one counts."""
        path = self.path / "decisions.jsonl"
        if not path.exists():
            return []
        try:
            return [_decision(json.loads(line)) for line in path.read_bytes().split(b"\n")[:-1]]
        except (ValueError, TypeError, KeyError):
            raise DamagedError(f"{path} cannot be read", hint="mend it, or start anew with run.name=NAME") from None

    def decide(self, reason: str, sizes: BatchSizes) -> None:
        """Continue with these sizes from now on."""
        path = self.path / "decisions.jsonl"
        storage.cut_torn_tail(path)
        storage.append_line(path, {"reason": reason, **asdict(sizes)}, sync=True)

    def pending(self) -> list[str]:
        """Targets of the phases that are still to do; iterations after a collapse are not, if the recipe says so."""
        rows = self.plan_row["phases"]
        collapsed = [row["iteration"] for row in rows if self._has_collapsed(row)]
        last = min(collapsed, default=len(rows))
        return [row["target"] for row in rows if not self.store.has(row["target"]) and (row["iteration"] or 0) <= last]

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return not self.pending()

    def recover(self) -> None:
        """After a crash: tidy away what it left half-done. For the holder of the run's lock only."""
        self.store.recover()
        for row in self.plan_row["phases"]:
            checkpoints = checkpoints_of(row["target"])
            if row["updates"] and self.store.has(row["target"]) and self.store.has(checkpoints):
                self.store.remove(checkpoints)

    def verify(self) -> None:
        """Compare everything that is done with what was written.

        Raises:
            DamagedError: names the files that differ.
        """
        targets = [row["target"] for row in self.plan_row["phases"]]
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

    def evaluations(self) -> dict[str, dict[str, Any]]:
        """``eval.json`` of every policy measured so far, by the policy's folder, in their order."""
        phases = [phase for phase in self.plan_row["phases"] if phase["kind"] == "evaluate"]
        done = [phase for phase in phases if self.store.has(phase["target"])]
        return {phase["policy"]: self.store.read_json(phase["target"]) for phase in done}

    def result(self) -> dict[str, Any] | None:
        """Which policy was chosen, and why; None before the end."""
        return self.store.read_json("result.json") if self.store.has("result.json") else None

    def test(self) -> dict[str, dict[str, Any]] | None:
        """Measures and answers on the test examples by the policy's folder: the base model, the initial policy and the
        chosen one; None before the end or without such examples."""
        if not self.store.has("test.json"):
            return None
        phases = [phase for phase in self.plan_row["phases"] if phase["kind"] == "test"]
        found = {phase["policy"]: self.store.read_json(phase["target"]) for phase in phases}
        chosen = self.store.read_json("test.json")
        return {**found, chosen.pop("policy"): chosen}

    @property
    def _stops_on_collapse(self) -> bool:
        return bool(self.plan_row["recipe"]["guard"]["stop"])

    def _has_collapsed(self, row: dict[str, Any]) -> bool:
        if not self._stops_on_collapse or row["kind"] != "evaluate" or row["iteration"] is None:
            return False
        return self.store.has(row["target"]) and bool(self.store.read_json(row["target"])["signs_of_collapse"])


def checkpoints_of(target: str) -> str:
    """The folder of the checkpoints of the phase that makes ``target``; both relative to the run."""
    return (Path(target).parent / "checkpoints").as_posix()


def open_run(path: Path, plan: Plan) -> Run:
    """An existing run, if it is one of this plan.

    Raises:
        UsageError: the run was made from another recipe, model or data; the differences are named.
    """
    run = Run(path)
    if run.about["fingerprint"] != plan.fingerprint:
        differences = _differences(run.plan_row, plan.to_row())
        raise UsageError(
            "\n  ".join([f"the run {run.name!r} was made with other settings:", *differences]),
            hint="start a new run, which keeps what is still valid, with --fork NAME; or give the settings it was "
            "made with",
        )
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


def _decision(row: dict[str, Any]) -> Decision:
    """Raises ValueError, TypeError or KeyError for what is none."""
    from ..recipe.plan import BatchSizes

    decision = Decision(row.pop("reason"), BatchSizes(**row))
    sizes = decision.sizes
    if sizes.memory not in ("fast", "lean") or min(sizes.micro_batch_size, sizes.generation_batch_size) < 1:
        raise ValueError(sizes)
    return decision


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    from ..recipe.parse import flatten
    from ..recipe.plan import NO_INFLUENCE

    old, new = flatten(before["recipe"]), flatten(now["recipe"])
    changed = [key for key in new if old.get(key) != new[key] and key not in NO_INFLUENCE]
    width = max(map(len, changed), default=0)
    differences = [f"{key:<{width}}  {_plain(old.get(key))} → {_plain(new[key])}" for key in changed]
    if before["data_digests"] != now["data_digests"]:
        differences.append("the data files have changed")
    if before["model_fingerprint"] != now["model_fingerprint"]:
        differences.append("the model's files have changed")
    return differences or ["this version of tspin-mlx plans otherwise"]


def _plain(value: Any) -> str:
    return "null" if value is None else json.dumps(value, ensure_ascii=False)
