"""The upstream id of a base model, from the files that lie beside its weights."""

import json

import pytest

from tspin_mlx.base.errors import UsageError
from tspin_mlx.export.upstream import find_base, no_base

QUANTIZED = {"quantization": {"bits": 4, "group_size": 64}}


def folder(tmp_path, config=None, card=None, snapshot_of=None):
    place = tmp_path / f"models--{snapshot_of.replace('/', '--')}/snapshots/abc" if snapshot_of else tmp_path / "model"
    place.mkdir(parents=True)
    (place / "config.json").write_text(json.dumps(config or {}))
    if card is not None:
        (place / "README.md").write_text(f"---\n{card}\n---\n# A model\n")
    return place


def test_the_built_in_model_is_known(tmp_path):
    base = find_base(folder(tmp_path, QUANTIZED), "smollm2-135m")
    assert (base.id, base.license, base.bits) == ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0", 4)


def test_a_quantised_conversion_names_what_was_converted(tmp_path):
    place = folder(tmp_path, QUANTIZED, "base_model: Qwen/Qwen3-0.6B\nlicense: apache-2.0", "mlx-community/Qwen3-4bit")
    base = find_base(place, "mlx-community/Qwen3-4bit")
    assert (base.id, base.license, base.trained_on) == ("Qwen/Qwen3-0.6B", "apache-2.0", "mlx-community/Qwen3-4bit")


def test_so_does_one_in_16_bits_and_a_list_of_one(tmp_path):
    place = folder(tmp_path, {}, "library_name: mlx\nbase_model:\n- Qwen/Qwen3-0.6B", "mlx-community/Qwen3-bf16")
    assert find_base(place, "mlx-community/Qwen3-bf16").id == "Qwen/Qwen3-0.6B"


def test_an_original_is_itself_and_not_its_ancestor(tmp_path):
    place = folder(tmp_path, {}, "base_model: Qwen/Qwen3-0.6B-Base\nbase_model_relation: finetune", "Qwen/Qwen3-0.6B")
    base = find_base(place, "Qwen/Qwen3-0.6B")
    assert (base.id, base.bits) == ("Qwen/Qwen3-0.6B", None)


@pytest.mark.parametrize(
    ("config", "card"),
    [
        ({}, None),
        (QUANTIZED, None),
        (QUANTIZED, "license: mit"),
        (QUANTIZED, "base_model: [a/b, c/d]"),
        (QUANTIZED, "base_model: '../../etc'"),
        (QUANTIZED, "base_model: {a: b}"),
        (QUANTIZED, "base_model: 'a\n: : broken"),
        ({}, "base_model: Qwen/Qwen3-0.6B-Base"),
    ],
)
def test_a_base_model_that_is_not_named_is_not_guessed(tmp_path, config, card):
    base = find_base(folder(tmp_path, config, card), str(tmp_path / "model"))
    assert base.id is None
    assert "--base OWNER/NAME" in no_base(base).hint


def test_a_local_path_is_not_published(tmp_path):
    base = find_base(folder(tmp_path, {}), "/Users/jane/secret/model")
    assert base.trained_on == "model"


def test_the_base_model_can_be_given_by_hand(tmp_path):
    place = folder(tmp_path, QUANTIZED, "base_model: a/b")
    assert find_base(place, "model", "c/d").id == "c/d"
    with pytest.raises(UsageError, match="is not a Hub id"):
        find_base(place, "model", "just-a-name")
