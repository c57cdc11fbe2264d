"""Shared fixtures: a tiny random llama with a byte tokenizer, as a model folder on disk."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import tspin_mlx  # noqa: F401  before any test imports MLX: on a Linux CPU it loads OpenBLAS, which has to come first

# No property fails because the machine is busy.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random llama of two layers whose tokens are bytes; loads with mlx-lm like any other model."""
    folder = tmp_path_factory.mktemp("tiny-llama")
    save_tiny_model(folder)
    return folder


def save_tiny_model(folder: Path, *, tied: bool = True) -> None:
    """Write config, weights and tokenizer of a tiny llama."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.models.llama import Model, ModelArgs
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    special = ["<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*special, *alphabet])}
    config = {
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "max_position_embeddings": 256,
        "vocab_size": len(vocab),
        "tie_word_embeddings": tied,
        "eos_token_id": 1,
    }
    mx.random.seed(0)
    model = Model(ModelArgs.from_dict(config))
    # Larger weights than the default ones, so that the policy has opinions to differ by.
    weights = {name: value * 2 if value.ndim > 1 else value for name, value in tree_flatten(model.parameters())}
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


@pytest.fixture
def same_as_kept():
    """Compares a text with a file in tests/snapshots; with UPDATE_SNAPSHOTS=1 the file is written instead."""

    def compare(name: str, text: str) -> None:
        path = Path(__file__).parent / "snapshots" / name
        if os.environ.get("UPDATE_SNAPSHOTS"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8"), f"{name} looks different; UPDATE_SNAPSHOTS=1 accepts it"

    return compare


SMALL_RECIPE = """
description: a small task
model: {model}
lora: {{rank: 4, layers: 1}}
data: {{train: train.jsonl, validation: validation.jsonl, test: test.jsonl}}
generation: {{max_tokens: 12, batch_size: 4}}
objective: {{alpha: 0.5, nll_weight: 1}}
warmup: {{epochs: 1, learning_rate: 0.01}}
training: {{iterations: 2, epochs: 1, batch_size: 4, learning_rate: 0.01}}
evaluation: {{metrics: [exact_match], best: nll, samples: 1}}
run: {{folder: {folder}, name: small}}
"""


def make_small_run(model: Path, folder: Path, *overrides: str) -> Path:
    """A finished run of a few steps on a tiny model; its path."""
    from tspin_mlx.catalog import find_recipe, parse_source
    from tspin_mlx.launch import prepare
    from tspin_mlx.worker import work

    for name, count in (("train", 8), ("validation", 4), ("test", 3)):
        rows = [{"prompt": f"{name} {i}", "response": f"[{i}]", "system": "Be brief."} for i in range(count)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "task.yaml").write_text(SMALL_RECIPE.format(model=model, folder=folder / "runs"))
    source = find_recipe(str(folder / "task.yaml"))
    run = prepare(parse_source(source, list(overrides)), source).run
    work(run)
    return run.path


@pytest.fixture(scope="session")
def small_run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the tiny llama. Whoever writes into it works on a copy."""
    return make_small_run(tiny_model, tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def tiny_run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with adapters on all layers and a second metric; not to be changed."""
    changes = ["lora.layers=0", "evaluation.metrics=[exact_match, json_valid]", "objective.nll_weight=0.5"]
    return make_small_run(tiny_model, tmp_path_factory.mktemp("tiny"), *changes, "training.learning_rate=0.02")
