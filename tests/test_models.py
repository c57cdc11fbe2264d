"""Models and adapters on disk: what loads, what is refused, and that an untouched adapter changes nothing."""

import json
import shutil

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.utils import load

from tspin_mlx.errors import SetupError, TspinError
from tspin_mlx.models import adapter_digest, load_policy, resolve_model, save_adapter, set_adapter
from tspin_mlx.recipe import LoraSection, ModelSection

PROBE = mx.array([[5, 6, 7, 8]])


def policy_of(path, seed=0, **lora):
    return load_policy(resolve_model(ModelSection(path=str(path))), "auto", LoraSection(**{"rank": 4, **lora}), seed)


def shaken(policy):
    mx.random.seed(3)
    changed = [(name, value + 0.1 * mx.random.normal(value.shape)) for name, value in policy.adapter().items()]
    policy.model.load_weights(changed, strict=False)
    return policy


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_an_untouched_adapter_changes_nothing(tiny_model, kind):
    plain, _ = load(str(tiny_model))
    np.testing.assert_allclose(
        np.array(policy_of(tiny_model, kind=kind).model(PROBE)), np.array(plain(PROBE)), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("lora", [{}, {"kind": "dora"}, {"layers": 1}, {"keys": ("self_attn.q_proj",)}, {"scale": 7}])
def test_mlx_lm_loads_a_saved_adapter_and_answers_the_same(tiny_model, tmp_path, lora):
    policy = shaken(policy_of(tiny_model, **lora))
    save_adapter(policy, tmp_path / "adapter")
    loaded, _ = load(str(tiny_model), adapter_path=str(tmp_path / "adapter"))
    np.testing.assert_allclose(np.array(loaded(PROBE)), np.array(policy.model(PROBE)), rtol=1e-5, atol=1e-5)


def test_an_adapter_comes_back_exactly(tiny_model, tmp_path):
    policy = shaken(policy_of(tiny_model))
    save_adapter(policy, tmp_path / "adapter")
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


def test_equal_adapters_have_equal_digests(tiny_model, tmp_path):
    for name in ("a", "b"):
        save_adapter(shaken(policy_of(tiny_model)), tmp_path / name)
    save_adapter(policy_of(tiny_model), tmp_path / "c")
    assert adapter_digest(tmp_path / "a") == adapter_digest(tmp_path / "b") != adapter_digest(tmp_path / "c")


def test_a_non_finite_adapter_is_not_saved(tiny_model, tmp_path):
    policy = policy_of(tiny_model)
    name, value = next(iter(policy.adapter().items()))
    policy.model.load_weights([(name, mx.full(value.shape, float("inf")))], strict=False)
    with pytest.raises(TspinError, match="non-finite"):
        save_adapter(policy, tmp_path / "adapter")
    assert list(tmp_path.iterdir()) == []


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


@pytest.mark.parametrize("how", ["missing", "extra", "shape", "nan", "truncated"])
def test_a_damaged_adapter_is_refused_and_nothing_is_loaded(tiny_model, tmp_path, how):
    save_adapter(shaken(policy_of(tiny_model)), tmp_path / "good")
    shutil.copytree(tmp_path / "good", tmp_path / "bad")
    file = tmp_path / "bad" / "adapters.safetensors"
    if how == "truncated":
        file.write_bytes(file.read_bytes()[:-40])
    else:
        tensors = damaged(dict(mx.load(str(tmp_path / "good" / "adapters.safetensors"))), how)
        mx.save_safetensors(str(file), tensors)
    policy = policy_of(tiny_model)
    before = {name: np.array(value) for name, value in policy.adapter().items()}
    with pytest.raises(SetupError, match="adapter"):
        set_adapter(policy, tmp_path / "bad")
    for name, value in policy.adapter().items():
        np.testing.assert_array_equal(np.array(value), before[name])


def test_a_model_that_brings_code_is_refused(tiny_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_file": "evil.py"}))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w').close()")
    with pytest.raises(SetupError, match="custom module"):
        policy_of(folder)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("path", "message"),
    [("/no/such/folder", "no such folder"), ("nothing", "not a Hub id"), ("missing.gguf", "no such file")],
)
def test_a_model_that_is_not_there_is_named(path, message):
    with pytest.raises(SetupError, match=message):
        resolve_model(ModelSection(path=path))


def test_an_empty_folder_is_no_model(tmp_path):
    with pytest.raises(SetupError, match="not a model folder"):
        resolve_model(ModelSection(path=str(tmp_path)))


def test_a_file_that_is_no_gguf_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TSPIN_MLX_CACHE", str(tmp_path / "cache"))
    (tmp_path / "fake.gguf").write_bytes(b"GGUF but not really")
    with pytest.raises(SetupError, match="not a GGUF file"):
        resolve_model(ModelSection(path=str(tmp_path / "fake.gguf")))
    assert not (tmp_path / "cache").exists()
