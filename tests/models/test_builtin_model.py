"""The built-in model: sane after conversion, and a small real run of the loop on it."""

import math
import os
import subprocess
import sys

import mlx.core as mx
import pytest
from mlx.utils import tree_unflatten
from mlx_lm.utils import dequantize_model, load

from tspin_mlx.engine.worker import work
from tspin_mlx.export.agreement import agreement, distributions, held_out
from tspin_mlx.export.fuse import MAX_KL
from tspin_mlx.export.source import open_source
from tspin_mlx.jobs.launch import prepare
from tspin_mlx.models.folder import resolve_model
from tspin_mlx.models.load import load_policy
from tspin_mlx.recipe.catalog import find_recipe, parse_source
from tspin_mlx.recipe.policy_names import BASE, INITIAL
from tspin_mlx.recipe.schema import LoraSection, ModelSection

pytestmark = pytest.mark.model

TEXT = (
    "The sun rises in the east and sets in the west. Water boils at one hundred degrees, and in winter the lakes in "
    "the north are covered with ice. People have lived near rivers for thousands of years, because the land there is "
    "good for growing food."
)


@pytest.fixture(scope="module")
def folder():
    return resolve_model(ModelSection())


@pytest.fixture(scope="module")
def policy(folder):
    return load_policy(folder, "auto", LoraSection(rank=2), 0)


def perplexity(model, tokenizer):
    ids = mx.array([tokenizer.encode(TEXT)])
    logits = model(ids[:, :-1]).astype(mx.float32)
    logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    return math.exp(-mx.take_along_axis(logprobs, ids[:, 1:, None], axis=-1).mean().item())


def interleaved(weight, heads):
    """The order of rows that the GGUF file has."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def rotary_projections(model):
    for layer in model.layers:
        attention = layer.self_attn
        yield attention.q_proj.linear, attention.n_heads
        yield attention.k_proj.linear, attention.n_kv_heads


def test_perplexity_is_sane_and_would_not_be_with_interleaved_heads(policy):
    """A forgotten un-permutation of the rotary halves is silent but for this."""
    good = perplexity(policy.model, policy.tokenizer)
    right = [linear.weight for linear, _ in rotary_projections(policy.model)]
    for linear, heads in rotary_projections(policy.model):
        linear.weight = interleaved(linear.weight, heads)
    wrong = perplexity(policy.model, policy.tokenizer)
    for (linear, _), weight in zip(rotary_projections(policy.model), right, strict=True):
        linear.weight = weight
    assert good < 25
    assert wrong > 2 * good


def test_the_tokenizer_knows_its_special_tokens(policy):
    tokenizer = policy.tokenizer
    assert tokenizer.eos_token_ids == {2}
    assert tokenizer.encode("<|im_start|>user\nhi 12<|im_end|>") == [1, 4093, 198, 6004, 216, 33, 34, 2]
    assert tokenizer.decode(tokenizer.encode("Grüße, 世界 2026!")) == "Grüße, 世界 2026!"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small real run of the loop."""
    source = find_recipe("quickstart")
    overrides = [
        f"run.folder={tmp_path_factory.mktemp('runs')}",
        "lora.layers=8",
        "data.train_limit=32",
        "data.validation_limit=3",
        "data.test_limit=1",
        "generation.prompts=4",
        "generation.max_tokens=16",
        "warmup.learning_rate=0.003",
        "training.iterations=2",
        "evaluation.best=nll",
    ]
    launch = prepare(parse_source(source, overrides), source)
    work(launch.run)
    return launch.run


def test_a_small_run_learns_the_form_and_mlx_lm_answers_in_it(folder, run):
    evaluations = run.evaluations()
    best = run.result()["best"]
    assert list(evaluations) == [BASE, INITIAL, "iterations/000", "iterations/001"]
    assert evaluations[best]["metrics"]["nll"] < 0.6 * evaluations[BASE]["metrics"]["nll"]
    assert evaluations["iterations/001"]["metrics"]["advantage_historical"] != 0

    command = [
        sys.executable, "-m", "mlx_lm", "generate", "--model", str(folder.path),
        "--adapter-path", str(run.path / "best"), "--system-prompt", "Reply with JSON.",
        "--prompt", "dim the lights to forty percent", "--max-tokens", "16", "--temp", "0",
        "--verbose", "False",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().startswith('{"action"')


def test_fused_in_4_bits_it_is_not_the_model_with_the_adapter(folder, run):
    """The adapter worked into the 4-bit weights, which are rounded again, as other tools do: the check refuses it."""
    source = open_source(run)
    examples = held_out(run.prompts().validation)[:3]
    expected = distributions(tuned(folder, source), examples)
    naive = agreement(expected, distributions(tuned(folder, source, fused=True), examples))
    print(f"\nmean KL of the naive way {naive.kl:.3f} nats, the same greedy token at {naive.greedy:.1%}")
    assert naive.kl > 2 * MAX_KL and naive.greedy < 1


def tuned(folder, source, *, fused=False):
    """The model with its adapter as mlx-lm loads it, or with that worked into the 4-bit weights; then in float32."""
    model, _ = load(str(folder.path), adapter_path=str(source.adapter))
    if fused:
        adapted = [(name, layer) for name, layer in model.named_modules() if hasattr(layer, "fuse")]
        layers = [(name, layer.fuse(dequantize=False)) for name, layer in adapted]
        assert all(layer.bits == 4 for _, layer in layers)
        model.update_modules(tree_unflatten(layers))
    model = dequantize_model(model)  # the same numbers, quicker to compute with on a CPU
    model.set_dtype(mx.float32)
    return model
