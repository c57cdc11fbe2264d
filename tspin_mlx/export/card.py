"""The model card (README.md of a Hub repository): method, results, usage, training settings. Pure.

It contains no user data: no prompt, no answer, no path. Of the recipe it shows the settings that define the adapter,
and the system prompt, without which it does not answer as trained.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import yaml

from ..data.read import is_remote
from ..data.tokenize import PAPER_TEMPLATE, takes_conversations
from ..recipe.policy_names import BASE, INITIAL, policy_name
from ..recipe.schema import Recipe
from ..recipe.settings import flatten
from .usage import Way

#: The picture next to the card.
CURVE = "advantages.svg"

_TSPIN = "T-SPIN, [arXiv 2601.08198](https://arxiv.org/abs/2601.08198)"
_SPIN = "SPIN, [arXiv 2401.01335](https://arxiv.org/abs/2401.01335)"
_ITSELF = "the model answers each prompt itself, and learns to prefer the expert's answer to its own"

#: By ``objective.kind``: the training method, and what it means.
_TRAINED = {
    "tspin": (f"triplet self-play fine-tuning ({_TSPIN})", _ITSELF),
    "tspin_with_reference": (f"triplet self-play fine-tuning ({_TSPIN}) with the reference of {_SPIN}", _ITSELF),
    "spin": (f"self-play fine-tuning ({_SPIN})", _ITSELF),
    "sft": ("supervised fine-tuning", "the model learns to reproduce the expert's answers"),
}

_CITATIONS = {
    _TSPIN: """\
@inproceedings{tspin,
  title     = {Triplets Better Than Pairs: Towards Stable and Effective Self-Play Fine-Tuning for LLMs},
  booktitle = {NeurIPS},
  year      = {2025},
  note      = {arXiv:2601.08198}
}""",
    _SPIN: """\
@inproceedings{spin,
  title     = {Self-Play Fine-Tuning Converts Weak Language Models to Strong Language Models},
  booktitle = {ICML},
  year      = {2024},
  note      = {arXiv:2401.01335}
}""",
}

_NAMES = {
    "nll": "NLL of the expert's answers (nats per token, lower is better)",
    "stop_rate": "answers that end by themselves",
    "length": "length of the answers (tokens)",
    "exact_match": "exact match",
    "json_valid": "valid JSON",
    "json_exact": "JSON equal",
    "json_field_f1": "JSON field F1",
    "regex": "matches the pattern",
    "numeric": "last number right",
}

#: Sections from which the training can be reproduced; the rest of a recipe is about the machine and the user's files.
_SECTIONS = ("lora", "generation", "objective", "warmup", "training")


@dataclass(frozen=True)
class Facts:
    """The content of a model card.

    Attributes:
        repo: ``owner/name``.
        base: Hub id of the base model.
        trained_on: the model that was trained, if it is not the base model as published.
        license: of the base model, if known.
        fused: whether this is a whole model.
        policy: folder of the policy.
        system: the system prompt of the training examples, if all have the same.
        thinks: whether the chat template has a switch for thinking, which is off in training.
        recipe: the run's.
        measured: measures by policy folder, on the test examples or else the validation examples.
        split: which of the two.
        examples: number of examples in each split.
        versions: of the packages used.
        machine: on which it was trained, in words.
        agreement: of a fused model with the unfused one.
    """

    repo: str
    base: str
    trained_on: str | None
    license: str | None
    fused: bool
    policy: str
    system: str | None
    thinks: bool
    recipe: Recipe
    measured: dict[str, dict[str, float]]
    split: str
    examples: dict[str, int]
    versions: dict[str, str]
    machine: str
    agreement: dict[str, Any] | None = None


def card(facts: Facts, ways: Iterable[Way], *, curve: bool) -> str:
    """Write the model card.

    Args:
        ways: usage instructions.
        curve: whether there is a picture.
    """
    parts = [
        f"---\n{yaml.safe_dump(metadata(facts), sort_keys=False)}---",
        f"# {facts.repo.split('/')[-1]}",
        _introduction(facts),
        *([_curve(facts)] if curve else []),
        "## Measured\n\n" + _measured(facts),
        "\n\n".join(["## Use", *_rendering(facts), *map(_way, ways)]),
        "## Training\n\n" + _training(facts),
        *_citations(facts),
    ]
    return "\n\n".join(parts) + "\n"


def metadata(facts: Facts) -> dict[str, Any]:
    """Return the card's YAML metadata."""
    fields: dict[str, Any] = {
        "base_model": facts.base,
        "base_model_relation": "finetune" if facts.fused else "adapter",
        "library_name": "mlx",
        "pipeline_tag": "text-generation",
        "tags": ["mlx", *([] if facts.fused else ["lora", "peft"]), *_method_tags(facts)],
    }
    if facts.license:
        fields["license"] = facts.license
    if datasets := _datasets(facts.recipe):
        fields["datasets"] = datasets
    return fields


def _datasets(recipe: Recipe) -> list[str]:
    names = [name for name in recipe.data.sources.values() if is_remote(name)]
    return list(dict.fromkeys(name.removeprefix("hub:").split(":")[0] for name in names))


def _introduction(facts: Facts) -> str:
    base = f"[{facts.base}](https://huggingface.co/{facts.base})"
    kind = f"{facts.recipe.lora.kind.replace('dora', 'DoRA').replace('lora', 'LoRA')} adapter"
    what = f"{base} with a {kind} merged into its weights" if facts.fused else f"A {kind} for {base}"
    how, meaning = _TRAINED[facts.recipe.objective.kind]
    text = f"{what}, trained by {how} with tspin-mlx {facts.versions['tspin-mlx']}: {meaning}."
    if facts.recipe.description.strip():
        text += f"\n\n> {' '.join(facts.recipe.description.split())}"
    if facts.trained_on:
        text += (
            f"\n\nIt was trained on {facts.trained_on}. The published weights of {facts.base} are more precise, so "
            "answers can differ slightly from those measured below."
        )
    if facts.agreement:
        text += (
            f"\n\nThe fused model was compared with the unfused one at {facts.agreement['positions']} positions of "
            f"held-out answers: the mean KL divergence is {facts.agreement['kl']:.2g} nats, and the most likely token "
            f"is the same at {facts.agreement['greedy']:.1%} of them."
        )
    return text


def _method_tags(facts: Facts) -> list[str]:
    kind = facts.recipe.objective.kind
    return {"sft": [], "spin": ["spin"]}.get(kind, ["t-spin"])


def _citations(facts: Facts) -> list[str]:
    how, _ = _TRAINED[facts.recipe.objective.kind]
    cited = [f"{name}:\n\n```bibtex\n{text}\n```" for name, text in _CITATIONS.items() if name in how]
    return ["\n\n".join(["## Cite", *cited])] if cited else []


def _curve(facts: Facts) -> str:
    if facts.recipe.objective.kind == "sft":
        caption = "NLL of the expert's answers over the training steps"
        return f'<img src="{CURVE}" alt="{caption}" width="100%">\n\n{caption}, in nats per token.'
    return (
        f'<img src="{CURVE}" alt="Current and historical advantage over the training steps" width="100%">\n\n'
        "Current advantage: log-probability of the expert's answer minus that of the model's own answer. Historical "
        "advantage: that of its own answer minus that of its first answer. In nats, per training step."
    )


def _measured(facts: Facts) -> str:
    columns = [folder for folder in (BASE, INITIAL, facts.policy) if folder in facts.measured]
    columns = list(dict.fromkeys(columns))
    warm = bool(facts.recipe.warmup.epochs)
    names = list(dict.fromkeys(name for folder in columns for name in facts.measured[folder]))
    names = [name for name in names if not name.startswith("advantage")]
    titles = [_title(folder, warm, facts.policy) for folder in columns]
    rows = [["", *titles], ["---", *["---:"] * len(columns)]]
    for name in names:
        digits = 1 if name == "length" else 3
        rows.append([_NAMES.get(name, name), *(f"{facts.measured[folder][name]:.{digits}f}" for folder in columns)])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    chosen = facts.recipe.evaluation.best
    note = (
        f"{facts.examples[facts.split]} {facts.split} examples, greedy answers, one run (seed {facts.recipe.run.seed}) "
        f"on {facts.machine}. "
    )
    if facts.split == "test":
        note += f"The policy was chosen by {chosen} on {facts.examples['validation']} other examples."
    else:
        note += f"The policy was chosen by {chosen} on these same examples, so the results are optimistic."
    return f"{table}\n\n{note}"


def _title(folder: str, warm: bool, policy: str) -> str:
    if folder == policy:
        return f"this model ({policy_name(folder)})"
    return "after the warm-up" if folder == INITIAL and warm else "base model"


def _rendering(facts: Facts) -> list[str]:
    """Describe how to render a prompt, if the chat template alone does not do it."""
    template = facts.recipe.data.template
    if not takes_conversations(template):
        form = PAPER_TEMPLATE if template == "paper" else template
        return [f"In training, prompts had this form, not that of the chat template:\n\n```\n{form}\n```"]
    if facts.thinks:
        return ["Thinking was off in training: set `enable_thinking` to false, as below."]
    return []


def _way(way: Way) -> str:
    remark = f"\n\n{way.remark}" if way.remark else ""
    return f"### {way.program}\n\n```{way.language}\n{way.text}\n```{remark}"


def _training(facts: Facts) -> str:
    recipe = facts.recipe
    data = recipe.data
    sources = [
        f"{facts.examples['train']} training examples ({_source(data.train)})",
        f"{facts.examples['validation']} for validation",
        *([f"{facts.examples['test']} for the test"] if facts.examples["test"] else []),
    ]
    text = f"{', '.join(sources)}."
    if facts.system:
        text += f" Their system prompt: {_code(facts.system)}"
    values = flatten({name: getattr(recipe, name).model_dump(mode="json") for name in _SECTIONS})
    kept = {**values, "data.template": data.template, "data.turn": data.turn, "run.seed": recipe.run.seed}
    rows = "\n".join(f"{name}: {_plain(value)}" for name, value in kept.items())
    packages = ", ".join(f"{name} {number}" for name, number in facts.versions.items())
    details = f"<details><summary>Settings of the recipe</summary>\n\n```\n{rows}\n```\n\n</details>"
    return f"{text}\n\n{details}\n\nMade with {packages}."


def _source(name: str) -> str:
    """Return a dataset's name, or only the type of a local file: its path is private."""
    return f"`{name.removeprefix('hub:')}`" if is_remote(name) else f"a local {PurePath(name).suffix[1:]} file"


def _code(text: str) -> str:
    line = " ".join(text.split())
    fence = "``" if "`" in line else "`"
    return f"{fence} {line} {fence}" if "`" in line else f"{fence}{line}{fence}"


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "null" if value is None else str(value).replace("\n", "\\n")
