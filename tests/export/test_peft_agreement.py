"""mlx-lm with an adapter and transformers + PEFT with its export give the same logits. Run with scripts/test-peft."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_lm.utils import dequantize_model, load, load_model

from tspin_mlx.engine.worker import work
from tspin_mlx.export.adapter import export_adapter
from tspin_mlx.export.peft import SAME_NAMES, to_peft
from tspin_mlx.export.source import open_source
from tspin_mlx.jobs.launch import prepare
from tspin_mlx.models.adapters import load_tensors, save_adapter, save_tensors
from tspin_mlx.models.folder import open_model
from tspin_mlx.models.load import load_policy
from tspin_mlx.recipe.catalog import find_recipe, parse_source
from tspin_mlx.recipe.schema import LoraSection
from tspin_mlx.runs.run import Run

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-peft/bin/python"
pytestmark = [
    pytest.mark.skipif(not PYTHON.exists(), reason="needs torch and PEFT in .venv-peft: scripts/test-peft makes it"),
]

#: Largest difference of any logit, both computed in float64.
TOLERANCE = 1e-4
IDS = [[5, 77, 130, 9, 200, 31, 64, 2, 8, 117], [250, 3, 3, 99]]


def in_peft(*arguments):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    command = [str(PYTHON), str(ROOT / "tests/peft_logits.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stderr


def compare(model, adapter, upstream, exported, ids, scratch):
    """Largest difference of the logits in float64, in MLX's float32, and how far the adapter moves them somewhere."""
    (scratch / "ids.json").write_text(json.dumps(ids))
    in_peft("logits", upstream, exported, scratch / "ids.json", scratch / "logits.npz")
    theirs = np.load(scratch / "logits.npz")
    ours, _ = load(str(model), adapter_path=str(adapter))
    ours = dequantize_model(ours)
    worst = []
    for dtype in (mx.float32, mx.float64):
        ours.set_dtype(dtype)
        with mx.stream(mx.cpu):  # a GPU has no float64
            found = [np.array(ours(mx.array([tokens]))[0]) for tokens in ids]
        worst.append(max(np.abs(logits - theirs[f"tuned{i}"]).max() for i, logits in enumerate(found)))
    moved = max(np.abs(logits - theirs[f"base{i}"]).max() for i, logits in enumerate(found))
    return worst[1], worst[0], moved


@pytest.fixture(scope="module")
def models(tmp_path_factory, tiny_model):
    """Small random models of any kind, made by transformers, with a tokenizer so that they load."""
    made = {}

    def get(kind):
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            in_peft("new", kind, made[kind])
            for name in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(tiny_model / name, made[kind] / name)
        return made[kind]

    return get


def exported(model, lora, folder):
    """A random adapter, as mlx-lm's folder and, converted, in the same folder for PEFT."""
    policy = load_policy(open_model(model, "x"), "float32", lora, 0)
    mx.random.seed(1)
    noise = {
        name: value + 0.05 * mx.random.normal(value.shape) * (mx.abs(value).mean() if name.endswith(".m") else 1)
        for name, value in policy.adapter().items()
    }
    policy.model.load_weights(list(noise.items()), strict=False)
    folder.mkdir()
    save_adapter(policy, folder)
    tensors, config = to_peft(load_tensors(folder / "adapters.safetensors"), policy.adapter_config, model, None)
    save_tensors(folder / "adapter_model.safetensors", tensors, made_for="pt")
    (folder / "adapter_config.json").write_text(json.dumps({**config, **policy.adapter_config}))


@pytest.mark.parametrize("kind", sorted(SAME_NAMES))
def test_every_kind_of_model(kind, models, tmp_path):
    model = models(kind)
    exported(model, LoraSection(rank=4, scale=3.0), tmp_path / "adapter")
    worst, _, moved = compare(model, tmp_path / "adapter", model, tmp_path / "adapter", IDS, tmp_path)
    assert worst < TOLERANCE < 0.05 < moved


@pytest.mark.parametrize(
    "lora",
    [
        {"rank": 3, "scale": 0.7, "layers": 2},
        {"rank": 2, "scale": 1.3, "keys": ("self_attn.q_proj", "self_attn.v_proj")},
        {"rank": 2, "layers": 1, "keys": ("mlp.down_proj",)},
        {"rank": 2, "keys": ("self_attn.q_proj", "lm_head")},
        {"rank": 4, "keys": ("model.embed_tokens",)},
        {"rank": 4, "layers": 1, "keys": ("model.embed_tokens", "self_attn.o_proj", "lm_head")},
        {"kind": "dora", "rank": 4, "scale": 1.7},
        {"kind": "dora", "rank": 3, "layers": 2, "keys": ("self_attn.q_proj",)},
    ],
    ids=lambda lora: "-".join(f"{value}" for value in lora.values()).replace(".", "_"),
)
@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_every_kind_of_adapter(kind, lora, models, tmp_path):
    model = models(kind)
    exported(model, LoraSection(**lora), tmp_path / "adapter")
    worst, _, moved = compare(model, tmp_path / "adapter", model, tmp_path / "adapter", IDS, tmp_path)
    assert worst < TOLERANCE < 0.01 < moved


@pytest.mark.model
@pytest.mark.parametrize("lora", [[], ["lora.kind=dora", "lora.rank=5", "lora.scale=0.9", "lora.layers=3"]])
def test_the_built_in_model_trained_and_exported(lora, tmp_path):
    """From a run to logits, on prompts of the household commands."""
    source = find_recipe("quickstart")
    brief = {
        "data.train_limit": "16", "data.validation_limit": "6", "data.test": "null", "generation.prompts": "4",
        "generation.max_tokens": "8", "evaluation.max_tokens": "8", "training.iterations": "1",
        "run.folder": str(tmp_path),
    }  # fmt: skip
    overrides = [f"{key}={value}" for key, value in brief.items()]
    run = prepare(parse_source(source, [*overrides, *lora]), source).run
    work(run)
    made = export_adapter(open_source(Run(run.path), 0), "both").path
    ids = [list(prompt.tokens + prompt.annotated.tokens) for prompt in run.prompts().validation]
    base = Path(run.about["model"]["path"])
    upstream = as_published(base, tmp_path / "upstream")
    worst, single, moved = compare(base, made, upstream, made, ids, tmp_path)
    print(f"largest difference {worst:.1e}, in float32 {single:.1e}; the adapter moves logits by up to {moved:.1f}")
    assert worst < TOLERANCE < 0.1 < moved


def as_published(model, folder):
    """The built-in model with its 4-bit numbers written out in float32, in the layout of its repository."""
    folder.mkdir()
    dense, config = load_model(model, lazy=True)
    dense = dequantize_model(dense)
    dense.set_dtype(mx.float32)
    save_tensors(folder / "model.safetensors", dict(tree_flatten(dense.parameters())), made_for="pt")
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if "quantization" not in k}))
    return folder
