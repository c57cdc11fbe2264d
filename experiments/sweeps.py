"""The sweeps of a task: one that looks for learning rates, and one that compares the methods with those it found.

``python -m experiments sweeps`` writes the first, ``python -m experiments choose`` the second.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from tspin_mlx.base.errors import UsageError
from tspin_mlx.recipe.policy_names import INITIAL
from tspin_mlx.runs.policies import better_is_lower

TASKS = ("snips", "word_sequence_reversal", "instructions")

#: Examples, by their share in percent; the smaller ones are parts of the larger.
EXAMPLES = {100: 512, 50: 256, 25: 128}

_TSPIN = {"objective.kind": "tspin"}


@dataclass(frozen=True)
class Method:
    """One of those that are compared.

    Attributes:
        changes: of the task's recipe.
        rates: learning rates among which is chosen, the smallest first; none takes those of another method.
        as_for: that method.
        shares: of the examples, with which it is compared.
    """

    changes: dict[str, Any]
    rates: tuple[str, ...] = ()
    as_for: str = ""
    shares: tuple[int, ...] = (100, 25)


METHODS = {
    "sft": Method({"objective.kind": "sft"}, ("2e-4", "5e-4", "1e-3"), shares=(100, 50, 25)),
    "spin": Method({"objective.kind": "spin"}, ("1e-4", "2e-4", "5e-4")),
    "tspin": Method(_TSPIN, ("5e-5", "1e-4", "2e-4", "5e-4")),
    "tspin-no-history": Method(_TSPIN | {"objective.beta": 0}, as_for="tspin"),
    "tspin-reference": Method({"objective.kind": "tspin_with_reference"}, as_for="spin"),
    "tspin-first": Method(
        _TSPIN | {"generation.temperature": 0, "objective.contrast_tokens": 1, "objective.alpha": 1}, ("2e-4", "5e-4")
    ),
}

#: Passes of the warm-up among which is chosen, by the share of the examples.
PASSES = {100: (2, 4, 8), 50: (4, 8), 25: (4, 8, 16)}

#: Methods that `sweep` also runs with a rate at which they do little, beside the chosen one.
_CAREFUL, _CAREFUL_RATE = ("spin", "tspin", "tspin-reference"), "2e-5"

_SEARCH_SEED = 100
_SETTINGS = {
    "model.dtype": "float32", "data.train_limit": EXAMPLES[100], "data.validation_limit": 256,
    "generation.batch_size": 256, "warmup.epochs": 4, "training.batch_size": 16, "training.micro_batch_size": 16,
    "training.grad_checkpoint": False,
}  # fmt: skip

#: What some tasks have otherwise: where answers are long a GPU takes as long for a token of one as for one of them all.
_SETTINGS_OF = {"snips": {"generation.batch_size": 704}, "instructions": {"generation.batch_size": 704}}


@dataclass(frozen=True)
class Choice:
    """What a search has found.

    Attributes:
        passes: of the warm-up, by the share of the examples.
        rates: learning rates by method.
    """

    passes: dict[int, int]
    rates: dict[str, str]


def search(task: str) -> str:
    """A sweep over passes and learning rates, with a seed that is used for nothing else."""
    arms = [
        _arm(_of_passes(share, passes), {
            "objective.kind": "sft", "training.learning_rate": "1e-5", "training.iterations": 1,
            "generation.prompts": 16, **_start(share, passes),
        })
        for share, some in PASSES.items() for passes in some
    ]  # fmt: skip
    arms += [
        _arm(f"{name}-{rate}", method.changes | {"training.learning_rate": rate})
        for name, method in METHODS.items()
        for rate in method.rates
    ]
    about = [
        "How many passes to warm up for over all examples, half and a quarter of them; and learning rates, in two",
        "iterations after four passes over all. Validation examples only. For a GPU, but computed as a CPU does.",
    ]
    settings = _SETTINGS | {"training.iterations": 2, "data.test": None}
    return _text(task, "search", about, settings, arms, [_SEARCH_SEED])


def sweep(task: str, choice: Choice) -> str:
    """The sweep over all methods, shares of the examples, and seeds."""

    def arm(name: str, share: int, rate: str, suffix: str = "") -> str:
        changes = METHODS[name].changes | {"training.learning_rate": rate}
        return _arm(f"{name}-{share}{suffix}", changes | _start(share, choice.passes[share]))

    arms = [
        arm(name, share, choice.rates[name])
        for share in EXAMPLES
        for name, method in METHODS.items()
        if share in method.shares
    ]
    arms += [arm(name, 100, _CAREFUL_RATE, f"-{_CAREFUL_RATE}") for name in _CAREFUL]
    about = [
        "A warm-up, then three iterations, with all of the examples, half and a quarter of them. For a GPU, but",
        "computed as a CPU does. Arms of one seed and share start from one warm-up, and make the same steps.",
        "Not in the paper: tspin-first, which contrasts greedy answers up to the first token that differs.",
    ]
    return _text(task, "full", about, _SETTINGS | {"training.iterations": 3}, arms, [0, 1, 2])


def choose(rows: Sequence[dict[str, Any]]) -> Choice:
    """The best by the validation measure of a search's runs: of rates the one with the best mean of its iterations, of
    passes those after which the policy is best; of equals the least.

    Args:
        rows: runs, as :mod:`outcomes` collects them.

    Raises:
        UsageError: some are missing.
    """
    sign = -1 if better_is_lower(rows[0]["measure"]) else 1
    scores: dict[str, float] = {}
    for row in rows:
        measures = {policy: found[row["measure"]] for policy, found in row["validation"].items()}
        iterations = [value for policy, value in measures.items() if policy.startswith("iterations/")]
        scores[row["arm"]] = sign * (measures[INITIAL] if "-passes-" in row["arm"] else fmean(iterations))

    def best(arms: list[str]) -> int:
        if missing := [arm for arm in arms if arm not in scores]:
            raise UsageError(f"no finished run of {', '.join(missing)}")
        return max(range(len(arms)), key=lambda i: (scores[arms[i]], -i))

    passes = {share: some[best([_of_passes(share, n) for n in some])] for share, some in PASSES.items()}
    rates = {
        name: method.rates[best([f"{name}-{rate}" for rate in method.rates])]
        for name, method in METHODS.items()
        if method.rates
    }
    return Choice(passes, rates | {name: rates[method.as_for] for name, method in METHODS.items() if method.as_for})


def _of_passes(share: int, passes: int) -> str:
    return f"sft-{share}-passes-{passes}"


def _start(share: int, passes: int) -> dict[str, int]:
    return {"data.train_limit": EXAMPLES[share], "warmup.epochs": passes}


def _text(
    task: str, kind: str, about: list[str], settings: dict[str, Any], arms: list[str], seeds: Sequence[int]
) -> str:
    command = {"search": "sweeps", "full": f"choose {task}-search.json"}[kind]
    return "\n".join([
        f"# Made by: python -m experiments {command}",
        *(f"# {line}" for line in about),
        f"#   tspin-mlx sweep experiments/{task}-{kind}.yaml --jobs 4",
        "", f"recipe: {task}.yaml",
        "", "set:", *(f"  {key}: {_value(value)}" for key, value in (settings | _SETTINGS_OF.get(task, {})).items()),
        "", "arms:", *arms,
        "", "vary:", f"  run.seed: {json.dumps(seeds)}",
        "",
    ])  # fmt: skip


def _arm(arm: str, changes: dict[str, Any]) -> str:
    return f"  {arm}: {{{', '.join(f'{key}: {_value(value)}' for key, value in changes.items())}}}"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
