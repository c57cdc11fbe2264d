"""The sweeps, written once for all tasks: ``python -m benchmarks.claims sweeps`` makes the files beside this one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

#: Examples: all of them are in the warm-up.
EXAMPLES = 512

_TSPIN = {"objective.kind": "tspin"}


@dataclass(frozen=True)
class Method:
    """One of those that are compared.

    Attributes:
        changes: of the task's recipe.
        rates: learning rates that it runs with; validation chooses.
        quarter: whether it also runs with the first rate and a quarter of the prompts.
    """

    changes: dict[str, Any]
    rates: tuple[str, ...]
    quarter: bool = True


METHODS = {
    "sft": Method({"objective.kind": "sft"}, ("2e-4", "5e-5")),
    "tspin": Method(_TSPIN, ("2e-5", "5e-5")),
    "tspin-no-history": Method(_TSPIN | {"objective.beta": 0}, ("2e-5", "5e-5")),
    "spin": Method({"objective.kind": "spin"}, ("2e-5", "5e-5")),
    "tspin-first": Method(
        _TSPIN | {"generation.temperature": 0, "objective.contrast_tokens": 1, "objective.alpha": 1}, ("5e-5", "2e-4")
    ),
    "tspin-anchored": Method(_TSPIN | {"objective.nll_weight": 1}, ("2e-4", "5e-5")),
    "tspin-reference": Method({"objective.kind": "tspin_with_reference"}, ("2e-5",), quarter=False),
}

TASKS = ("snips", "word_sequence_reversal", "instructions")

_SETTINGS = {
    "model.dtype": "float32", "data.train_limit": EXAMPLES, "data.validation_limit": 128, "generation.batch_size": 128,
    "warmup.epochs": 4, "training.iterations": 3, "training.batch_size": 16, "training.micro_batch_size": 16,
    "training.memory": "fast",
}  # fmt: skip


def sweep(task: str) -> str:
    """The sweep over all methods, learning rates and seeds."""
    arms = []
    for number in range(max(len(method.rates) for method in METHODS.values())):
        for name, method in METHODS.items():
            if rate := method.rates[number : number + 1]:
                arms.append(_arm(f"{name}-100" + (f"-{rate[0]}" if number else ""), method, rate[0], {}))
    arms.append(
        f"  # With a quarter of the prompts, for supervised training also half; the warm-up has seen all {EXAMPLES}."
    )
    for name, method in METHODS.items():
        if method.quarter:
            arms.append(_arm(f"{name}-25", method, method.rates[0], {"generation.prompts": EXAMPLES // 4}))
    sft = METHODS["sft"]
    arms.append(_arm("sft-50", sft, sft.rates[0], {"generation.prompts": EXAMPLES // 2}))
    return "\n".join([
        "# Made by: python -m benchmarks.claims sweeps",
        f"# Four passes over {EXAMPLES} examples, then three iterations; for a GPU, but computed as a CPU does.",
        "# All arms of a seed start from one warm-up, and have the same prompts, epochs and steps per iteration.",
        "# Not in the paper: tspin-first, which contrasts greedy answers up to the first token that differs, and",
        "# tspin-anchored, which adds the expert's NLL to the loss.",
        f"#   tspin-mlx sweep benchmarks/claims/{task}-full.yaml --jobs 4",
        "", f"recipe: {task}.yaml",
        "", "set:", *(f"  {key}: {_value(value)}" for key, value in _SETTINGS.items()),
        "", "arms:", *arms,
        "", "vary:", "  run.seed: [0, 1, 2]",
        "",
    ])  # fmt: skip


def _arm(arm: str, method: Method, rate: str, more: dict[str, Any]) -> str:
    changes = method.changes | {"training.learning_rate": rate} | more
    return f"  {arm}: {{{', '.join(f'{key}: {_value(value)}' for key, value in changes.items())}}}"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
