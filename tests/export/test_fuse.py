"""Fused models: the same model as with the adapter, or nothing."""

import json
import shutil

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.utils import load, load_model, quantize_model

import tspin_mlx.export.fuse as fusing
from tests.support.small_runs import make_small_run
from tspin_mlx.base.errors import DamagedError, UsageError
from tspin_mlx.export.agreement import agreement, distributions, held_out
from tspin_mlx.export.fuse import MAX_KL, FusedAnother, fuse
from tspin_mlx.export.source import open_source
from tspin_mlx.models.adapters import save_tensors
from tspin_mlx.runs.run import Run

PROBE = mx.array([[5, 6, 7, 8, 9]])


@pytest.fixture
def run(small_run, tmp_path):
    return Run(shutil.copytree(small_run, tmp_path / "small", symlinks=True))


@pytest.fixture(scope="module")
def quantized_model(tiny_model, tmp_path_factory):
    """The tiny llama in 4 bits."""
    folder = tmp_path_factory.mktemp("quantized")
    shutil.copytree(tiny_model, folder, dirs_exist_ok=True)
    model, config = load_model(tiny_model)
    model, config = quantize_model(model, config, 32, 4)
    save_tensors(folder / "model.safetensors", dict(tree_flatten(model.parameters())))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module", params=["lora", "dora"])
def quantized_run(request, quantized_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return make_small_run(quantized_model, folder, f"lora.kind={request.param}", "lora.layers=0")


def test_agreement_by_hand():
    p = mx.log(mx.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]))
    q = mx.log(mx.array([[0.25, 0.5, 0.25], [0.1, 0.8, 0.1]]))
    found = agreement([p[:1], p[1:]], [q[:1], q[1:]])
    # .5 ln 2 - .25 ln 2 at the first position, nothing at the second
    assert found.kl == pytest.approx(0.25 * np.log(2) / 2)
    assert (found.greedy, found.prompts, found.positions) == (0.5, 2, 2)


def test_distributions_are_those_of_the_answers_tokens(run, tiny_model):
    model, _ = load(str(tiny_model))
    example = held_out(run.prompts().validation)[0]
    answer = example.annotated.tokens
    found = distributions(model, [example])[0]
    assert found.shape[0] == len(answer)
    whole = model(mx.array([[*example.tokens, *answer]]))[0].astype(mx.float32)
    expected = whole - mx.logsumexp(whole, axis=-1, keepdims=True)
    at = len(example.tokens) - 1
    np.testing.assert_allclose(np.array(found), np.array(expected[at : at + len(answer)]), atol=1e-5)


def test_the_fused_model_is_the_model_with_its_adapter(run, tiny_model):
    made = fuse(open_source(run, 1))
    fused, _ = load(str(made.path))
    tuned, _ = load(str(tiny_model), adapter_path=str(run.path / "iterations/001/adapter"))
    plain, _ = load(str(tiny_model))
    np.testing.assert_allclose(np.array(fused(PROBE)), np.array(tuned(PROBE)), atol=1e-4)
    assert np.abs(np.array(fused(PROBE)) - np.array(plain(PROBE))).max() > 0.05
    assert made.note["agreement"]["kl"] < 1e-6 and made.note["agreement"]["greedy"] == 1
    assert made.note["agreement"]["positions"] == sum(len(x.annotated.tokens) for x in run.prompts().validation)


def test_a_model_in_4_bits_is_fused_in_full(quantized_run, quantized_model, tmp_path):
    run = Run(shutil.copytree(quantized_run, tmp_path / "small", symlinks=True))
    made = fuse(open_source(run, 1))
    model, config = load_model(made.path)
    assert "quantization" not in config and not [
        name for name, _ in tree_flatten(model.parameters()) if "scales" in name
    ]
    assert made.note["agreement"]["kl"] < 1e-5  # fmt: skip


def test_the_naive_way_loses_the_adapter_and_the_check_says_so(quantized_run, quantized_model, tmp_path):
    """Fusing into 4-bit weights, as other tools do, is not the same model; neither is quantising again."""
    run = Run(shutil.copytree(quantized_run, tmp_path / "small", symlinks=True))
    source = open_source(run, 1)
    tuned, _ = load(str(quantized_model), adapter_path=str(source.adapter))
    examples = held_out(run.prompts().validation)
    expected = distributions(tuned, examples)
    layers = [(name, layer.fuse(dequantize=False)) for name, layer in tuned.named_modules() if hasattr(layer, "fuse")]
    tuned.update_modules(tree_unflatten(layers))
    naive = agreement(expected, distributions(tuned, examples))
    assert naive.kl > MAX_KL
    with pytest.raises(FusedAnother, match=r"quantised to 4 bits differs too much from .* mean KL 0\.\d+") as e:
        fuse(source, bits=4)
    assert "--max-kl" in e.value.hint and e.value.exit_code == 1
    assert list((run.path / "exports").iterdir()) == []


def test_a_loss_that_was_allowed_is_kept_and_written_down(run):
    made = fuse(open_source(run, 1), bits=4, max_kl=50)
    found = made.note["agreement"]
    assert MAX_KL < found["kl"] < 50 and found["max_kl"] == 50
    model, config = load_model(made.path)
    assert config["quantization"]["bits"] == 4
    assert [name for name, _ in tree_flatten(model.parameters()) if name.endswith("scales")]
    assert json.loads((made.path / "export.json").read_text())["quantized_to"] == 4


def test_8_bits_lose_less_than_4(run):
    eight = fuse(open_source(run, 1), bits=8, max_kl=50).note["agreement"]["kl"]
    four = fuse(open_source(run, 1), bits=4, max_kl=50).note["agreement"]["kl"]
    assert eight < four / 10


def test_again_finds_what_is_there(run):
    assert fuse(open_source(run, 1)).made
    assert not fuse(open_source(run, 1)).made
    with pytest.raises(UsageError, match="made from something else"):
        fuse(open_source(run, 0), name="iteration-1-fused")
    weights = run.path / "exports/iteration-1-fused/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(DamagedError, match=r"model\.safetensors has changed since it was written"):
        fuse(open_source(run, 1))


def test_the_stored_type_of_the_base_is_kept_and_rounding_may_not_lose_the_adapter(tiny_model, tmp_path, monkeypatch):
    half = tmp_path / "half"
    shutil.copytree(tiny_model, half)
    weights = mx.load(str(tiny_model / "model.safetensors"))
    save_tensors(half / "model.safetensors", {name: value.astype(mx.bfloat16) for name, value in weights.items()})
    run = Run(make_small_run(half, tmp_path))
    made = fuse(open_source(run, 1))
    assert {value.dtype for value in mx.load(str(made.path / "model.safetensors")).values()} == {mx.bfloat16}
    found = made.note["agreement"]
    assert 0 < found["kl"] < MAX_KL  # rounding the sums to bfloat16 is seen, and is little
    assert found["kl"] < found["adapter_kl"] / 10  # beside what the adapter changes
    monkeypatch.setattr(fusing, "_ROUNDING", 0)
    monkeypatch.setattr(fusing, "_LOST", found["kl"] / found["adapter_kl"] / 2)
    with pytest.raises(FusedAnother) as caught:
        fuse(open_source(run, 1), name="lost")
    assert "rounding probably lost the adapter's effect" in caught.value.hint
    assert fuse(open_source(run, 1), name="allowed", max_kl=MAX_KL).note["agreement"]["max_kl"] == MAX_KL
