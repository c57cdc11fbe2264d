"""Adapters on disk: what is saved comes back exactly, and what is damaged or of another model is refused."""

import json
import shutil

import mlx.core as mx
import mlx_lm.utils
import numpy as np
import pytest

from tests.support.digests import adapter_digest
from tests.support.tiny_model import perturb, tiny_policy
from tspin_mlx.base import filesystem
from tspin_mlx.base.errors import DamagedError, DivergedError, SetupError, TspinError
from tspin_mlx.models.adapters import load_tensors, save_adapter, save_tensors, set_adapter
from tspin_mlx.models.folder import open_model

PROBE = mx.array([[5, 6, 7, 8]])


def saved(policy, folder):
    with filesystem.new_folder(folder) as made:
        save_adapter(policy, made)


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_an_untouched_adapter_changes_nothing(tiny_model, kind):
    plain, _ = mlx_lm.utils.load(str(tiny_model))
    np.testing.assert_allclose(
        np.array(tiny_policy(tiny_model, kind=kind).model(PROBE)), np.array(plain(PROBE)), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("lora", [{}, {"kind": "dora"}, {"layers": 1}, {"keys": ("self_attn.q_proj",)}, {"scale": 7}])
def test_mlx_lm_loads_a_saved_adapter_and_answers_the_same(tiny_model, tmp_path, lora):
    policy = perturb(tiny_policy(tiny_model, **lora), 3)
    saved(policy, tmp_path / "adapter")
    loaded, _ = mlx_lm.utils.load(str(tiny_model), adapter_path=str(tmp_path / "adapter"))
    np.testing.assert_allclose(np.array(loaded(PROBE)), np.array(policy.model(PROBE)), rtol=1e-5, atol=1e-5)


def test_an_adapter_comes_back_exactly(tiny_model, tmp_path):
    policy = perturb(tiny_policy(tiny_model), 3)
    saved(policy, tmp_path / "adapter")
    other = tiny_policy(tiny_model, seed=9)
    set_adapter(other, tmp_path / "adapter")
    for name, value in policy.adapter().items():
        assert (other.adapter()[name] == value).all()


def test_equal_adapters_have_equal_digests(tiny_model, tmp_path):
    for name in ("a", "b"):
        saved(perturb(tiny_policy(tiny_model), 3), tmp_path / name)
    saved(tiny_policy(tiny_model), tmp_path / "c")
    assert adapter_digest(tmp_path / "a") == adapter_digest(tmp_path / "b") != adapter_digest(tmp_path / "c")


def test_a_non_finite_adapter_is_not_saved(tiny_model, tmp_path):
    policy = tiny_policy(tiny_model)
    name, value = next(iter(policy.adapter().items()))
    policy.model.load_weights([(name, mx.full(value.shape, float("inf")))], strict=False)
    with pytest.raises(TspinError, match="non-finite"):
        save_adapter(policy, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_saved_adapter_names_its_base_model_and_how_it_is_attached(tiny_model, tmp_path):
    policy = tiny_policy(tiny_model, scale=3, keys=("self_attn.q_proj",))
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
    class Full(filesystem.Disk):
        def write(self, path, fill):
            if path.name == full:
                raise OSError(28, "No space left on device")
            super().write(path, fill)

    monkeypatch.setattr(filesystem, "disk", Full())
    with pytest.raises(OSError, match="No space"):
        save_adapter(tiny_policy(tiny_model), tmp_path)


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
    saved(perturb(tiny_policy(tiny_model), 3), tmp_path / "good")
    shutil.copytree(tmp_path / "good", tmp_path / "bad")
    file = tmp_path / "bad" / "adapters.safetensors"
    if how == "truncated":
        file.write_bytes(file.read_bytes()[:-40])
    elif how == "gone":
        file.unlink()
    else:
        tensors = damaged(dict(mx.load(str(tmp_path / "good" / "adapters.safetensors"))), how)
        mx.save_safetensors(str(file), tensors)
    policy = tiny_policy(tiny_model)
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
    saved(perturb(tiny_policy(tiny_model), 3), tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    path.unlink() if config is None else path.write_text(json.dumps(config))
    policy = tiny_policy(tiny_model)
    before = {name: np.array(value) for name, value in policy.adapter().items()}
    with pytest.raises(SetupError, match=words):
        set_adapter(policy, tmp_path / "adapter")
    for name, value in policy.adapter().items():
        np.testing.assert_array_equal(np.array(value), before[name])


def test_an_adapter_that_is_not_finite_is_a_divergence(tiny_model, tmp_path):
    policy = tiny_policy(tiny_model)
    name, value = next(iter(policy.adapter().items()))
    policy.model.load_weights([(name, mx.full(value.shape, float("inf")))], strict=False)
    with pytest.raises(DivergedError, match=r"not saved: .* has non-finite values"):
        save_adapter(policy, tmp_path)
    assert not list(tmp_path.iterdir())
