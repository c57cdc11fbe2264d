"""The sweeps, written once for all tasks: ``python -m benchmarks.claims sweeps`` makes the files beside this one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

#: Learning rates that the arms start with, as they are written; TASK-rates.yaml is how to look for better ones.
SUPERVISED_RATE, SELF_PLAY_RATE = "2e-4", "1e-5"

#: A seed for choosing settings, which the other sweeps do not use.
CHOOSING_SEED = 100

_SFT = {"objective.kind": "sft", "training.learning_rate": SUPERVISED_RATE}
_SPIN = {"objective.kind": "spin", "training.learning_rate": SELF_PLAY_RATE}
_TSPIN = {"objective.kind": "tspin", "training.learning_rate": SELF_PLAY_RATE}
_FIRST = {
    "objective.kind": "tspin", "generation.temperature": 0, "objective.contrast_tokens": 1, "objective.alpha": 1,
    "training.learning_rate": SUPERVISED_RATE,
}  # fmt: skip
_ANCHOR = {"objective.nll_weight": 1, "training.learning_rate": SUPERVISED_RATE}

#: What is compared: changes of the recipe, and the percentages of the prompts that it runs with.
METHODS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "sft": (_SFT, (25, 50, 100)),
    "spin": (_SPIN, (25, 100)),
    "tspin": (_TSPIN, (25, 100)),
    "tspin-no-history": (_TSPIN | {"objective.beta": 0}, (25, 100)),
    "tspin-reference": (_TSPIN | {"objective.kind": "tspin_with_reference"}, (25, 100)),
    "spin-anchored": (_SPIN | _ANCHOR, (25, 100)),
    "tspin-anchored": (_TSPIN | _ANCHOR, (25, 100)),
    "tspin-first": (_FIRST, (25, 100)),
}

#: Methods that also run with a quarter of the examples and nothing else, in the warm-up neither.
ALONE = ("sft", "tspin", "tspin-anchored", "tspin-first")

RATES = ("5e-6", "2e-5", "5e-5", "2e-4")


@dataclass(frozen=True)
class Size:
    """How much is computed.

    Attributes:
        about: for people.
        prompts: training examples.
        settings: changes of the recipe.
    """

    about: str
    prompts: int
    settings: dict[str, Any]


SIZES = {
    "small": Size(
        "2 iterations on 64 prompts, with adapters on the last 8 layers: for two CPU cores.",
        64,
        {"data.validation_limit": 64, "data.test_limit": 128, "generation.batch_size": 64},
    ),
    "full": Size(
        "The paper's 5 iterations, on 1,024 prompts and with adapters on all layers: for a GPU.",
        1024,
        {
            "lora.layers": 0, "generation.batch_size": 128, "warmup.learning_rate": "5e-4", "training.iterations": 5,
            "training.batch_size": 16, "training.micro_batch_size": 16,
        },
    ),
}  # fmt: skip

#: The small size of tasks whose answers are long: answering takes most of the time.
LONG = {"snips": {"data.validation_limit": 32, "data.test_limit": 64}}


def files(task: str) -> dict[str, str]:
    """The sweeps of a task by file name."""
    found = {f"{task}-{size}.yaml": _sweep(task, size) for size in SIZES}
    return found | {f"{task}-rates.yaml": _rates(task)}


def _sweep(task: str, name: str) -> str:
    size, lines = SIZES[name], []
    for method, (changes, shares) in METHODS.items():
        for share in shares:
            lines.append(_line(f"{method}-{share}", changes | {"generation.prompts": size.prompts * share // 100}))
    lines.append("  # These know a quarter of the examples and no more, in their warm-up neither.")
    for method in ALONE:
        lines.append(_line(f"{method}-alone", METHODS[method][0] | {"data.train_limit": size.prompts // 4}))
    about = [
        size.about,
        "All arms of a seed start from one warm-up on all prompts, and go on with the first 25, 50 or 100 % of them:",
        "the same prompts, epochs and steps per iteration for supervised training as for self-play.",
        "Anchored ones (not in the paper) add the expert's NLL to the loss, and take the rate of supervised training.",
        "tspin-first (not in the paper) contrasts greedy answers, up to the first token that differs.",
    ]
    return _file(task, name, about, _settings(task, name), lines, {"run.seed": [0, 1, 2]})


def _rates(task: str) -> str:
    lines = []
    for method in ("sft", "spin", "tspin", "spin-anchored", "tspin-anchored", "tspin-first"):
        changes = {key: value for key, value in METHODS[method][0].items() if key != "training.learning_rate"}
        lines.append(_line(method, changes))
    about = ["Which learning rate each method likes, by validation, with a seed that the other sweeps do not use."]
    vary: dict[str, list[Any]] = {"training.learning_rate": list(RATES), "run.seed": [CHOOSING_SEED]}
    settings = _settings(task, "small") | {"data.test": None}
    del settings["data.test_limit"]
    return _file(task, "rates", about, settings, lines, vary)


def _settings(task: str, name: str) -> dict[str, Any]:
    size = SIZES[name]
    return {"data.train_limit": size.prompts} | size.settings | (LONG.get(task, {}) if name == "small" else {})


def _file(
    task: str, name: str, about: list[str], settings: dict[str, Any], arms: list[str], vary: dict[str, list[Any]]
) -> str:
    return "\n".join([
        "# Made by: python -m benchmarks.claims sweeps",
        *(f"# {line}" for line in about),
        f"#   tspin-mlx sweep benchmarks/claims/{task}-{name}.yaml",
        "", f"recipe: {task}.yaml",
        "", "set:", *(f"  {key}: {_value(value)}" for key, value in settings.items()),
        "", "arms:", *arms,
        "", "vary:", *(f"  {key}: [{', '.join(map(_value, values))}]" for key, values in vary.items()),
        "",
    ])  # fmt: skip


def _line(arm: str, changes: dict[str, Any]) -> str:
    return f"  {arm}: {{{', '.join(f'{key}: {_value(value)}' for key, value in changes.items())}}}"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
