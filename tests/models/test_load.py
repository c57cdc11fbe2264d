"""Models and adapters on disk: what loads, what is refused, and that an untouched adapter changes nothing."""

import dataclasses
import importlib
import json
import shutil
from types import SimpleNamespace

import mlx.core as mx
import mlx.nn as nn
import mlx_lm.utils
import numpy as np
import pytest

from tests.support.digests import adapter_digest
from tests.support.tiny_model import save_tiny_model
from tspin_mlx.base import storage
from tspin_mlx.base.errors import DamagedError, DivergedError, SetupError, TspinError
from tspin_mlx.evaluation.measure import measure
from tspin_mlx.method.triplets import Prompt, Response
from tspin_mlx.models.adapters import load_tensors, save_adapter, save_tensors, set_adapter
from tspin_mlx.models.folder import open_model, resolve_model
from tspin_mlx.models.load import _finds_rope_itself, call_cost, cast, load_policy
from tspin_mlx.models.rope import rope_settings
from tspin_mlx.recipe.schema import EvaluationSection, LoraSection, ModelSection
from tspin_mlx.scoring.logprobs import Scorer, score

PROBE = mx.array([[5, 6, 7, 8]])


def policy_of(path, seed=0, **lora):
    return load_policy(resolve_model(ModelSection(path=str(path))), "auto", LoraSection(**{"rank": 4, **lora}), seed)


def shaken(policy):
    mx.random.seed(3)
    changed = [(name, value + 0.1 * mx.random.normal(value.shape)) for name, value in policy.adapter().items()]
    policy.model.load_weights(changed, strict=False)
    return policy


def saved(policy, folder):
    with storage.new_folder(folder) as made:
        save_adapter(policy, made)


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_an_untouched_adapter_changes_nothing(tiny_model, kind):
    plain, _ = mlx_lm.utils.load(str(tiny_model))
    np.testing.assert_allclose(
        np.array(policy_of(tiny_model, kind=kind).model(PROBE)), np.array(plain(PROBE)), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("lora", [{}, {"kind": "dora"}, {"layers": 1}, {"keys": ("self_attn.q_proj",)}, {"scale": 7}])
def test_mlx_lm_loads_a_saved_adapter_and_answers_the_same(tiny_model, tmp_path, lora):
    policy = shaken(policy_of(tiny_model, **lora))
    saved(policy, tmp_path / "adapter")
    loaded, _ = mlx_lm.utils.load(str(tiny_model), adapter_path=str(tmp_path / "adapter"))
    np.testing.assert_allclose(np.array(loaded(PROBE)), np.array(policy.model(PROBE)), rtol=1e-5, atol=1e-5)


def test_an_adapter_comes_back_exactly(tiny_model, tmp_path):
    policy = shaken(policy_of(tiny_model))
    saved(policy, tmp_path / "adapter")
    other = policy_of(tiny_model, seed=9)
    set_adapter(other, tmp_path / "adapter")
    for name, value in policy.adapter().items():
        assert (other.adapter()[name] == value).all()


def test_layers_and_keys_say_where_the_adapter_is(tiny_model):
    last = policy_of(tiny_model, layers=1).adapter()
    assert last and all(name.startswith("model.layers.1.") for name in last)
    queries = policy_of(tiny_model, keys=("self_attn.q_proj",)).adapter()
    assert queries and all("q_proj" in name for name in queries)
    with pytest.raises(SetupError, match="no_such"):
        policy_of(tiny_model, keys=("no_such",))


def test_adapter_weights_are_float32_on_a_bfloat16_model(tiny_model):
    folder = resolve_model(ModelSection(path=str(tiny_model)))
    policy = load_policy(folder, "bfloat16", LoraSection(rank=2), 0)
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
        policy = policy_of(folder)
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
        policy_of(folder)


def test_layers_that_dora_does_not_know_are_a_matter_of_the_recipe(tiny_model, monkeypatch):
    def refuse(*args, **options):
        raise ValueError("SwitchLinear doesn't support DoRA yet.")

    monkeypatch.setattr("mlx_lm.tuner.utils.linear_to_lora_layers", refuse)
    with pytest.raises(SetupError, match=r"no adapter: SwitchLinear") as caught:
        policy_of(tiny_model, kind="dora")
    assert caught.value.hint == "lora.kind=lora works with more layer types"


def test_weights_that_a_model_needs_as_they_are_are_not_cast(tiny_model):
    model = policy_of(tiny_model).model
    model.cast_predicate = lambda name: "embed_tokens" not in name
    cast(model, mx.bfloat16)
    assert model.model.embed_tokens.weight.dtype == mx.float32
    assert model.model.norm.weight.dtype == mx.bfloat16


def test_equal_adapters_have_equal_digests(tiny_model, tmp_path):
    for name in ("a", "b"):
        saved(shaken(policy_of(tiny_model)), tmp_path / name)
    saved(policy_of(tiny_model), tmp_path / "c")
    assert adapter_digest(tmp_path / "a") == adapter_digest(tmp_path / "b") != adapter_digest(tmp_path / "c")


def test_a_non_finite_adapter_is_not_saved(tiny_model, tmp_path):
    policy = policy_of(tiny_model)
    name, value = next(iter(policy.adapter().items()))
    policy.model.load_weights([(name, mx.full(value.shape, float("inf")))], strict=False)
    with pytest.raises(TspinError, match="non-finite"):
        save_adapter(policy, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_saved_adapter_names_its_base_model_and_how_it_is_attached(tiny_model, tmp_path):
    policy = policy_of(tiny_model, scale=3, keys=("self_attn.q_proj",))
    saved(policy, tmp_path / "adapter")
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text()) == {
        "fine_tune_type": "lora",
        "num_layers": 0,
        "lora_parameters": {"rank": 4, "scale": 3.0, "dropout": 0.0, "keys": ["self_attn.q_proj"]},
        "base": {"name": str(tiny_model), "fingerprint": open_model(tiny_model, "tiny").fingerprint},
    }
    assert sorted(path.name for path in (tmp_path / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapters.safetensors",
    ]


def test_the_bytes_of_tensors_do_not_depend_on_their_order(tmp_path):
    tensors = {"b": mx.array([1.5, 2.5]), "a": mx.zeros((2, 3), mx.bfloat16), "c": mx.array(7, mx.uint64)}
    save_tensors(tmp_path / "x.safetensors", tensors)
    save_tensors(tmp_path / "y.safetensors", dict(reversed(tensors.items())))
    assert (tmp_path / "x.safetensors").read_bytes() == (tmp_path / "y.safetensors").read_bytes()
    found = load_tensors(tmp_path / "x.safetensors")
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert (found[name].shape, found[name].dtype) == (value.shape, value.dtype)
        assert (found[name] == value).all()


def test_tensors_in_memory_do_not_change_with_their_file(tmp_path):
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": mx.arange(1000)})
    found = load_tensors(path)
    path.write_bytes(bytes(path.stat().st_size))
    assert found["a"].sum().item() == 499_500


@pytest.mark.parametrize("content", [None, b"", b"junk" * 100, "cut", "header"])
def test_a_file_of_tensors_that_cannot_be_read_is_damaged(tmp_path, content):
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": mx.ones((10, 10))})
    whole = path.read_bytes()
    if content is None:
        path.unlink()
    else:
        path.write_bytes({"cut": whole[:-1], "header": whole[:20]}.get(content, content))
    with pytest.raises(DamagedError) as caught:
        load_tensors(path)
    assert caught.value.message.startswith(f"{path} cannot be read (")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("full", ["adapters.safetensors", "adapter_config.json"])
def test_an_adapter_is_written_where_a_full_disk_is_noticed(tiny_model, tmp_path, monkeypatch, full):
    class Full(storage.Disk):
        def write(self, path, fill):
            if path.name == full:
                raise OSError(28, "No space left on device")
            super().write(path, fill)

    monkeypatch.setattr(storage, "disk", Full())
    with pytest.raises(OSError, match="No space"):
        save_adapter(policy_of(tiny_model), tmp_path)


def damaged(tensors, how):
    name = sorted(tensors)[0]
    if how == "missing":
        del tensors[name]
    elif how == "extra":
        tensors["model.layers.9.lora_a"] = mx.zeros((2, 2))
    elif how == "shape":
        tensors[name] = mx.zeros((1, 1))
    elif how == "nan":
        tensors[name] = mx.full(tensors[name].shape, float("nan"))
    return tensors


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ("missing", SetupError, "this adapter does not fit the policy: 1 tensors are missing, extra, of another shape"),
        ("extra", SetupError, "1 tensors are missing, extra, of another shape or not finite: model.layers.9.lora_a"),
        ("shape", SetupError, "this adapter does not fit the policy: 1 tensors"),
        ("nan", SetupError, "this adapter does not fit the policy: 1 tensors"),
        ("truncated", DamagedError, r"adapters\.safetensors cannot be read"),
        ("gone", DamagedError, r"adapters\.safetensors cannot be read"),
    ],
)
def test_a_damaged_adapter_is_refused_and_nothing_is_loaded(tiny_model, tmp_path, how, error, words):
    saved(shaken(policy_of(tiny_model)), tmp_path / "good")
    shutil.copytree(tmp_path / "good", tmp_path / "bad")
    file = tmp_path / "bad" / "adapters.safetensors"
    if how == "truncated":
        file.write_bytes(file.read_bytes()[:-40])
    elif how == "gone":
        file.unlink()
    else:
        tensors = damaged(dict(mx.load(str(tmp_path / "good" / "adapters.safetensors"))), how)
        mx.save_safetensors(str(file), tensors)
    policy = policy_of(tiny_model)
    before = {name: np.array(value) for name, value in policy.adapter().items()}
    with pytest.raises(error, match=words):
        set_adapter(policy, tmp_path / "bad")
    for name, value in policy.adapter().items():
        np.testing.assert_array_equal(np.array(value), before[name])


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"base": {"name": "org/other", "fingerprint": "f"}}, "made for another base model \\(org/other, not "),
        ({"base": None}, "made for another base model \\(unknown, not "),
        ({}, "made for another base model \\(unknown, not "),
        ([], r"adapter_config\.json is not a JSON object"),
        (None, r"adapter_config\.json cannot be read"),
    ],
    ids=["other", "null", "none", "list", "gone"],
)
def test_an_adapter_of_another_base_model_is_refused(tiny_model, tmp_path, config, words):
    saved(shaken(policy_of(tiny_model)), tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    path.unlink() if config is None else path.write_text(json.dumps(config))
    policy = policy_of(tiny_model)
    before = {name: np.array(value) for name, value in policy.adapter().items()}
    with pytest.raises(SetupError, match=words):
        set_adapter(policy, tmp_path / "adapter")
    for name, value in policy.adapter().items():
        np.testing.assert_array_equal(np.array(value), before[name])


class Layers(nn.Module):
    """Linear layers without bias; nothing of them is computed."""

    def __init__(self, count, width):
        super().__init__()
        self.layers = [nn.Linear(width, width, bias=False) for _ in range(count)]


def test_what_a_call_of_a_model_costs(monkeypatch):
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
        policy_of(tiny_model)


def test_a_head_that_is_adapted_is_not_looked_at_while_it_is_fused(tmp_path):
    save_tiny_model(tmp_path, tied=False)
    lora = LoraSection(rank=2, keys=("self_attn.q_proj", "lm_head"))
    policy = load_policy(resolve_model(ModelSection(path=str(tmp_path))), "auto", lora, 0)
    answer = Response((9, 8, 1), "")
    prompt = Prompt("x", (5, 6, 7), "", answer, "")

    def nll():
        return measure(policy, [prompt], [answer], None, None, EvaluationSection())[0]["nll"]

    first = nll()
    shaken(policy)
    assert nll() == pytest.approx(-score(Scorer(policy.model), [(prompt, (answer,))])[0, 0] / 3, rel=1e-5) != first


def test_an_adapter_that_is_not_finite_is_a_divergence(tiny_model, tmp_path):
    policy = policy_of(tiny_model)
    name, value = next(iter(policy.adapter().items()))
    policy.model.load_weights([(name, mx.full(value.shape, float("inf")))], strict=False)
    with pytest.raises(DivergedError, match=r"not saved: .* has non-finite values"):
        save_adapter(policy, tmp_path)
    assert not list(tmp_path.iterdir())
