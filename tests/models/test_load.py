"""Models on disk: what loads, what is refused, and how they are cast, adapted and called."""

import dataclasses
import importlib
import json
import shutil
from types import SimpleNamespace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from tests.support.tiny_model import perturb, save_tiny_model, tiny_policy
from tspin_mlx.base.errors import SetupError
from tspin_mlx.evaluation.measure import measure
from tspin_mlx.method.triplets import Prompt, Response
from tspin_mlx.models.load import _finds_rope_itself, call_cost, cast
from tspin_mlx.models.rope import rope_settings
from tspin_mlx.recipe.schema import EvaluationSection
from tspin_mlx.scoring.logprobs import Scorer, score

PROBE = mx.array([[5, 6, 7, 8]])


def test_layers_and_keys_say_where_the_adapter_is(tiny_model):
    last = tiny_policy(tiny_model, layers=1).adapter()
    assert last and all(name.startswith("model.layers.1.") for name in last)
    queries = tiny_policy(tiny_model, keys=("self_attn.q_proj",)).adapter()
    assert queries and all("q_proj" in name for name in queries)
    with pytest.raises(SetupError, match="no_such"):
        tiny_policy(tiny_model, keys=("no_such",))


def test_adapter_weights_are_float32_on_a_bfloat16_model(tiny_model):
    policy = tiny_policy(tiny_model, dtype="bfloat16", rank=2)
    assert policy.model.model.embed_tokens.weight.dtype == mx.bfloat16
    assert {value.dtype for value in policy.adapter().values()} == {mx.float32}


ROPE = {"rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64}  # fmt: skip


@pytest.mark.parametrize("rope", [{"rope_theta": 500.0}, {**ROPE, "rope_type": "llama3"}], ids=["plain", "scaled"])
def test_rotary_positions_as_transformers_5_writes_them(tiny_model, tmp_path, rope):
    def logits(name, settings):
        folder = shutil.copytree(tiny_model, tmp_path / name)
        config = json.loads((folder / "config.json").read_text())
        del config["rope_theta"]
        (folder / "config.json").write_text(json.dumps(config | settings))
        policy = tiny_policy(folder)
        assert policy.mlx_lm_agrees == (name != "now")
        return np.array(policy.model(PROBE))

    theta = {"rope_theta": rope["rope_theta"]}
    earlier = theta if len(rope) == 1 else theta | {"rope_scaling": rope}
    expected = logits("earlier", earlier)
    np.testing.assert_array_equal(logits("now", {"rope_parameters": {"rope_type": "default"} | rope}), expected)
    assert np.abs(logits("neither", {}) - expected).max() > 1e-3


@pytest.mark.parametrize(
    ("kind", "rope", "knows"),
    [
        ("qwen3_moe", {"rope_theta": 1e6}, False),  # mlx-lm refuses it without rope_theta
        ("llama", {"rope_theta": 1e4}, True),  # as mlx-lm assumes
        ("llama", {"rope_theta": 1e6}, False),
        ("gemma3_text", {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}, True),
        ("gemma3_text", {"full_attention": {"rope_theta": 5e5}, "sliding_attention": {"rope_theta": 1e4}}, False),
    ],
)
def test_whether_mlx_lm_finds_the_rotary_settings_by_itself(kind, rope, knows):
    module = importlib.import_module(f"mlx_lm.models.{kind}")
    needed = {field.name: 2 for field in dataclasses.fields(module.ModelArgs) if field.default is dataclasses.MISSING}
    config = {**needed, "model_type": kind, "rope_parameters": rope}
    config.pop("rope_theta", None)
    args = module.ModelArgs.from_dict({**config, **rope_settings(config)})
    assert _finds_rope_itself(SimpleNamespace(args=args), config) == knows
    assert not _finds_rope_itself(SimpleNamespace(), config)  # a model that does not keep its arguments


def test_rotary_settings_within_a_text_model_and_of_each_kind_of_layer():
    scaled = {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}
    both = {"rope_parameters": {"full_attention": scaled, "sliding_attention": {"rope_theta": 1e4}}}
    found = {"rope_theta": 1e6, "rope_scaling": {**scaled, "type": "linear"}, "rope_local_base_freq": 1e4}
    assert rope_settings(both) == found
    inner = {"vocab_size": 9, **both}
    assert rope_settings({"model_type": "gemma3", "text_config": inner}) == {"text_config": {**inner, **found}}
    for known in ({}, {"rope_theta": 5, **both}, {"rope_parameters": None}, {"text_config": {"rope_theta": 5, **both}}):
        assert rope_settings(known) == {}


@pytest.mark.parametrize("broken", [{"hidden_size": None}, {"hidden_size": 30}], ids=["without a key", "wrong shapes"])
def test_a_model_that_mlx_lm_cannot_load_is_named(tiny_model, tmp_path, broken):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text()) | broken
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    with pytest.raises(SetupError, match=f"^{folder}: mlx-lm cannot load this model: "):
        tiny_policy(folder)


def test_layers_that_dora_does_not_know_are_a_matter_of_the_recipe(tiny_model, monkeypatch):
    def refuse(*args, **options):
        raise ValueError("SwitchLinear doesn't support DoRA yet.")

    monkeypatch.setattr("mlx_lm.tuner.utils.linear_to_lora_layers", refuse)
    with pytest.raises(SetupError, match="cannot add an adapter: SwitchLinear") as caught:
        tiny_policy(tiny_model, kind="dora")
    assert caught.value.hint == "lora.kind=lora works with more layer types"


def test_weights_that_a_model_needs_as_they_are_are_not_cast(tiny_model):
    model = tiny_policy(tiny_model).model
    model.cast_predicate = lambda name: "embed_tokens" not in name
    cast(model, mx.bfloat16)
    assert model.model.embed_tokens.weight.dtype == mx.float32
    assert model.model.norm.weight.dtype == mx.bfloat16


class Layers(nn.Module):
    """Linear layers without bias; nothing of them is computed."""

    def __init__(self, count, width):
        super().__init__()
        self.layers = [nn.Linear(width, width, bias=False) for _ in range(count)]


def test_the_cost_of_a_call_of_a_model(monkeypatch):
    monkeypatch.setattr("tspin_mlx.models.load.on_cpu", lambda: True)
    assert call_cost(Layers(3, 1000)) == 24
    # On a GPU 2e9 operations per layer, 4 per parameter and token: 2e9 / 4e6; of a large model no less than on a CPU.
    monkeypatch.setattr("tspin_mlx.models.load.on_cpu", lambda: False)
    monkeypatch.setattr(mx.cuda, "is_available", lambda: False)
    assert call_cost(Layers(3, 1000)) == call_cost(Layers(1, 1000)) == 500
    quantised = Layers(2, 1024)
    nn.quantize(quantised)
    assert call_cost(quantised) == pytest.approx(2e9 / 4 / 1024**2, abs=0.5)
    assert call_cost(Layers(1, 10_000)) == 24
    monkeypatch.setattr(mx.cuda, "is_available", lambda: True)
    assert call_cost(Layers(3, 1000)) == 5000


def test_a_model_that_answers_otherwise_than_it_is_trained_is_refused(tiny_model, monkeypatch):
    """As Gemma 3n, whose layers share keys and values only if there is a cache."""
    from mlx_lm.models import llama

    original = llama.Attention.__call__

    def forgetful(self, x, mask=None, cache=None):
        return original(self, x, mask, cache) if cache is None else original(self, mx.zeros_like(x), mask, cache)

    monkeypatch.setattr(llama.Attention, "__call__", forgetful)
    with pytest.raises(SetupError, match="other outputs in generation than in training"):
        tiny_policy(tiny_model)


def test_a_head_that_is_adapted_is_not_looked_at_while_it_is_fused(tmp_path):
    save_tiny_model(tmp_path, tied=False)
    policy = tiny_policy(tmp_path, rank=2, keys=("self_attn.q_proj", "lm_head"))
    answer = Response((9, 8, 1), "")
    prompt = Prompt("x", (5, 6, 7), "", answer, "")

    def nll():
        return measure(policy, [prompt], [answer], None, None, EvaluationSection())[0]["nll"]

    first = nll()
    perturb(policy, 3)
    assert nll() == pytest.approx(-score(Scorer(policy.model), [(prompt, (answer,))])[0, 0] / 3, rel=1e-5) != first
