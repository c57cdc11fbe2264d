"""What is measured: random models of real shapes, and triplets of random tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models.llama import Model, ModelArgs
from mlx_lm.tuner.utils import linear_to_lora_layers

from tspin_mlx.method.triplets import Prompt, Response
from tspin_mlx.models.folder import resolve_model
from tspin_mlx.models.load import Policy, load_policy
from tspin_mlx.recipe.catalog import find_recipe
from tspin_mlx.recipe.schema import LoraSection, ModelSection

#: Llamas by name; the first has the shape of the built-in model.
SHAPES: dict[str, dict[str, Any]] = {
    "135m": {
        "hidden_size": 576, "num_hidden_layers": 30, "intermediate_size": 1536, "num_attention_heads": 9,
        "num_key_value_heads": 3, "vocab_size": 49152,
    },
    "500m": {
        "hidden_size": 1024, "num_hidden_layers": 28, "intermediate_size": 3072, "num_attention_heads": 16,
        "num_key_value_heads": 8, "vocab_size": 65536,
    },
    "tiny": {
        "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 512,
    },
}  # fmt: skip

RANK = 8


@dataclass(frozen=True)
class Workload:
    """One setting.

    Attributes:
        shape: of the model, a name in ``SHAPES``.
        prompt, response: lengths in tokens; ragged ones are drawn between half of each and one and a half.
        triplets: per optimiser step, computed as one micro-batch.
        ragged: draw lengths instead of using the same for all.
    """

    shape: str = "135m"
    prompt: int = 200
    response: int = 100
    triplets: int = 4
    ragged: bool = False

    def examples(self, responses: int) -> list[tuple[Prompt, tuple[Response, ...]]]:
        """Prompts with so many responses each, always the same."""
        rng = np.random.default_rng(0)
        vocabulary = SHAPES[self.shape]["vocab_size"]

        def tokens(length: int) -> tuple[int, ...]:
            drawn = int(rng.integers(length // 2, 3 * length // 2 + 1)) if self.ragged else length
            return tuple(rng.integers(0, vocabulary, drawn).tolist())

        made = []
        for i in range(self.triplets):
            prompt = tokens(self.prompt)
            answers = tuple(Response(tokens(self.response), "") for _ in range(3))[:responses]
            made.append((Prompt(str(i), prompt, "", answers[0], ""), answers))
        return made


def random_model(shape: str) -> nn.Module:
    """A llama with random weights, in the type that MLX computes fastest in: float32 on a CPU, else bfloat16."""
    mx.random.seed(0)
    config = {"model_type": "llama", "rms_norm_eps": 1e-5, "tie_word_embeddings": True, **SHAPES[shape]}
    model = Model(ModelArgs.from_dict(config))
    if mx.default_device() == mx.gpu:
        model.set_dtype(mx.bfloat16)
    mx.eval(model.parameters())
    return model


def with_adapter(model: nn.Module) -> Policy:
    """The model with LoRA on all its linears."""
    model.freeze()
    linear_to_lora_layers(model, 0, {"rank": RANK, "scale": 2.0, "dropout": 0.0})
    mx.eval(model.parameters())
    return Policy(model, None, {})


def step_flops(work: Workload, tokens: int, scored: int, pairs: float, *, recompute: bool) -> float:
    """Floating-point operations of one training step, by the usual count (see docs/performance.md)."""
    shape = SHAPES[work.shape]
    d, layers, ffn = shape["hidden_size"], shape["num_hidden_layers"], shape["intermediate_size"]
    head = d // shape["num_attention_heads"]
    kv = head * shape["num_key_value_heads"]
    weights = layers * (2 * d * d + 2 * d * kv + 3 * d * ffn)
    adapter = layers * RANK * (2 * (d + d) + 2 * (d + kv) + 3 * (d + ffn))
    per_token = 6 * weights + 8 * adapter if recompute else 4 * weights + 6 * adapter
    attention = 4 * layers * d * pairs * (4 if recompute else 3)
    return tokens * per_token + 4 * d * shape["vocab_size"] * scored + attention


@dataclass(frozen=True)
class Answering:
    """Household commands, which the built-in model answers.

    Attributes:
        prompts: how many.
        max_tokens: longest answer.
        batch: prompts answered at once.
        mixed: one to six commands in each prompt, so that lengths differ; else one.
    """

    prompts: int = 32
    max_tokens: int = 48
    batch: int = 16
    mixed: bool = False

    def examples(self, policy: Policy) -> list[Prompt]:
        """The prompts, rendered, with the expert's answers."""
        path = find_recipe("quickstart").path.parent / "data/household/train.jsonl"
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        made = []
        for i in range(self.prompts):
            count = 1 + 5 * i % 6 if self.mixed else 1
            chosen = [rows[(7 * i + j) % len(rows)] for j in range(count)]
            text = ", then ".join(row["prompt"] for row in chosen)
            messages = [{"role": "system", "content": chosen[0]["system"]}, {"role": "user", "content": text}]
            tokens = policy.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
            answer = " ".join(row["response"] for row in chosen)
            expert = policy.tokenizer.encode(answer, add_special_tokens=False)
            made.append(
                Prompt(str(i), tuple(tokens), text, Response((*expert, policy.tokenizer.eos_token_id), answer), "")
            )
        return made


def builtin_policy() -> Policy:
    """The built-in model with an adapter that is not zero, on all linears."""
    policy = load_policy(resolve_model(ModelSection()), "auto", LoraSection(rank=RANK), 0)
    moved = [
        (name, 0.002 * mx.random.normal(value.shape, key=mx.random.key(i)))
        for i, (name, value) in enumerate(policy.adapter().items())
        if name.endswith("lora_b")
    ]
    policy.model.load_weights(moved, strict=False)
    return policy
