"""Adapters as PEFT's: names, shapes, the choice of modules, and what is refused."""

import json

import mlx.core as mx
import numpy as np
import pytest

from tspin_mlx.base.errors import UsageError
from tspin_mlx.export.peft import to_peft

WIDE, NARROW, LAYERS, WORDS = 6, 4, 3, 10
SHAPES = {
    **{
        f"model.layers.{i}.{name}.weight": shape
        for i in range(LAYERS)
        for name, shape in {
            "self_attn.q_proj": (WIDE, WIDE),
            "self_attn.k_proj": (NARROW, WIDE),
            "mlp.down_proj": (WIDE, WIDE),
            "cross_attn.q_proj": (WIDE, WIDE),
            "input_layernorm": (WIDE,),
        }.items()
    },
    "model.embed_tokens.weight": (WORDS, WIDE),
    "lm_head.weight": (WORDS, WIDE),
}


@pytest.fixture
def base(tmp_path):
    def make(model_type="llama", without=(), **config):
        weights = {name: mx.zeros(shape) for name, shape in SHAPES.items() if name not in without}
        mx.save_safetensors(str(tmp_path / "model.safetensors"), weights)
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, **config}))
        return tmp_path

    return make


def adapter(modules, rank=2, dora=False):
    tensors = {}
    for module in modules:
        rows, columns = SHAPES[f"{module}.weight"]
        embedding = module.endswith("embed_tokens")
        inputs, outputs = (rows, columns) if embedding else (columns, rows)
        tensors[f"{module}.lora_a"] = mx.random.normal((inputs, rank))
        tensors[f"{module}.lora_b"] = mx.random.normal((rank, outputs))
        if dora:
            tensors[f"{module}.m"] = mx.ones(rows)
    return tensors


def config(rank=2, scale=1.5, kind="lora"):
    return {"fine_tune_type": kind, "lora_parameters": {"rank": rank, "scale": scale, "dropout": 0.0}}


def layers(*names, of=range(LAYERS)):
    return [f"model.layers.{i}.{name}" for i in of for name in names]


def test_matrices_are_transposed_and_renamed(base):
    tensors = adapter(layers("self_attn.k_proj"))
    theirs, _ = to_peft(tensors, config(), base(), "o/m")
    a = theirs["base_model.model.model.layers.1.self_attn.k_proj.lora_A.weight"]
    b = theirs["base_model.model.model.layers.1.self_attn.k_proj.lora_B.weight"]
    assert (a.shape, b.shape) == ((2, WIDE), (NARROW, 2))
    np.testing.assert_array_equal(np.array(a).T, np.array(tensors["model.layers.1.self_attn.k_proj.lora_a"]))
    assert len(theirs) == len(tensors)


@pytest.mark.parametrize(("rank", "scale", "alpha"), [(16, 2.0, 32), (2, 1.5, 3), (3, 0.7, 0.7 * 3)])
def test_alpha_is_the_scale_times_the_rank(base, rank, scale, alpha):
    _, found = to_peft(adapter(layers("mlp.down_proj"), rank), config(rank, scale), base(), "o/m")
    assert (found["r"], found["lora_alpha"], found["base_model_name_or_path"]) == (rank, alpha, "o/m")
    assert type(found["lora_alpha"]) is (int if float(alpha).is_integer() else float)


def test_all_layers_are_named_by_their_modules(base):
    _, found = to_peft(adapter(layers("self_attn.k_proj", "mlp.down_proj")), config(), base(), None)
    assert (found["target_modules"], found["layers_to_transform"]) == (["down_proj", "k_proj"], None)


def test_the_last_layers_are_counted(base):
    _, found = to_peft(adapter(layers("self_attn.k_proj", of=[1, 2])), config(), base(), None)
    assert (found["target_modules"], found["layers_to_transform"]) == (["k_proj"], [1, 2])
    assert found["layers_pattern"] == "layers"


@pytest.mark.parametrize(
    "modules",
    [
        layers("self_attn.q_proj"),  # there is a cross_attn.q_proj, too
        [*layers("self_attn.k_proj", of=[2]), "lm_head"],  # PEFT's layers_to_transform would leave the head out
        [*layers("self_attn.k_proj", of=[1, 2]), *layers("mlp.down_proj", of=[2])],
    ],
)
def test_where_ends_of_names_would_choose_others_too_every_module_is_named(base, modules):
    _, found = to_peft(adapter(modules), config(), base(), None)
    assert (found["target_modules"], found["layers_to_transform"]) == (sorted(modules), None)


def test_dora_brings_its_lengths(base):
    theirs, found = to_peft(adapter(layers("mlp.down_proj"), dora=True), config(kind="dora"), base(), None)
    assert found["use_dora"]
    assert theirs["base_model.model.model.layers.0.mlp.down_proj.lora_magnitude_vector"].shape == (WIDE,)


def test_embeddings_have_names_of_their_own(base):
    theirs, _ = to_peft(adapter(["model.embed_tokens"]), config(), base(), None)
    shapes = {name.removeprefix("base_model.model.model.embed_tokens."): x.shape for name, x in theirs.items()}
    assert shapes == {"lora_embedding_A": (2, WORDS), "lora_embedding_B": (WIDE, 2)}


def test_an_embedding_that_is_also_the_head_is_refused(base):
    with pytest.raises(UsageError, match="also the LM head") as caught:
        to_peft(adapter(["model.embed_tokens"]), config(), base(without=["lm_head.weight"]), None)
    assert "fuse" in caught.value.hint


def test_dora_of_an_embedding_is_refused(base):
    tensors = adapter(["model.embed_tokens"], dora=True)
    with pytest.raises(UsageError, match="DoRA of an embedding"):
        to_peft(tensors, config(kind="dora"), base(), None)


def test_experts_are_refused(base):
    tensors = adapter(layers("mlp.down_proj"))
    tensors["model.layers.0.mlp.down_proj.lora_a"] = mx.zeros((8, 2, WIDE))
    with pytest.raises(UsageError, match="experts"):
        to_peft(tensors, config(), base(), None)


def test_modules_that_the_published_weights_do_not_have_are_refused(base):
    without = [f"model.layers.{i}.mlp.down_proj.weight" for i in range(LAYERS)]
    with pytest.raises(UsageError, match="names of the modules of llama models are not known"):
        to_peft(adapter(layers("mlp.down_proj")), config(), base(without=without), None)


def test_other_kinds_of_models_need_their_published_names(base):
    tensors = adapter(layers("mlp.down_proj"))
    to_peft(tensors, config(), base("other"), None)
    with pytest.raises(UsageError, match="names of the modules of other models are not known"):
        to_peft(tensors, config(), base("other", quantization={"bits": 4}), None)
