"""A plan's fingerprint: changed by all that can change a result, and by nothing else."""

import os
import subprocess
import sys

import pytest

from tests.support.plans import COUNTS, DATA, plan, recipe
from tspin_mlx.recipe.parse import parse_recipe
from tspin_mlx.recipe.plan import NO_INFLUENCE, make_plan

BASIS = ("warmup.epochs=1", "generation.prompts=60", "evaluation.metrics=[regex, numeric]", "evaluation.regex=a")


CHANGES = {
    "model.revision": "main",
    "model.dtype": "float32",
    "lora.kind": "dora",
    "lora.rank": 8,
    "lora.scale": 1.5,
    "lora.dropout": 0.1,
    "lora.layers": 4,
    "lora.keys": "[self_attn.q_proj]",
    "data.validation_size": 32,
    "data.train_limit": 100,
    "data.validation_limit": 10,
    "data.test_limit": 5,
    "data.columns.prompt": "question",
    "data.columns.response": "reply",
    "data.columns.system": "role",
    "data.columns.answer": "final",
    "data.turn": "first",
    "data.system": "Be kind.",
    "data.template": "paper",
    "data.max_tokens": 1024,
    "data.skip_bad_rows": "true",
    "generation.prompts": 50,
    "generation.temperature": 0.5,
    "generation.top_p": 0.9,
    "generation.max_tokens": 128,
    "generation.batch_size": 8,
    "generation.shard_tokens": 64,
    "objective.alpha": 0.5,
    "objective.beta": 0.3,
    "objective.nll_weight": 1.0,
    "objective.entropy_weight": 0.1,
    "objective.kind": "spin",
    "objective.contrast_tokens": 3,
    "warmup.epochs": 2,
    "warmup.learning_rate": 0.1,
    "warmup.prompts": 64,
    "training.iterations": 3,
    "training.epochs": 3,
    "training.batch_size": 8,
    "training.micro_batch_size": 2,
    "training.optimizer": "lion",
    "training.learning_rate": 0.1,
    "training.schedule": "cosine",
    "training.warmup_ratio": 0.2,
    "training.weight_decay": 0.1,
    "training.max_grad_norm": "null",
    "training.grad_checkpoint": "true",
    "evaluation.metrics": "[regex]",
    "evaluation.regex": "b",
    "evaluation.best": "numeric",
    "evaluation.max_tokens": 64,
    "guard.stop_rate_drop": 0.1,
    "guard.nll_rise": 0.2,
    "guard.truncated_rise": 0.1,
    "guard.stop": "true",
    "run.seed": 1,
}


IGNORED = {
    "description": "Something else.",
    "measured": "Something else.",
    "model.path": "org/copy",
    "data.train": "moved/t.jsonl",
    "data.validation": "moved/v.jsonl",
    "data.test": "moved/x.jsonl",
    "evaluation.samples": 1,
    "run.name": "other",
    "run.folder": "elsewhere",
    "run.checkpoint_seconds": 1,
}


def test_the_tables_of_changes_cover_every_key():
    assert CHANGES.keys() | IGNORED.keys() == recipe().settings.keys()
    assert IGNORED.keys() == NO_INFLUENCE


@pytest.mark.parametrize(("key", "value"), CHANGES.items(), ids=CHANGES)
def test_the_fingerprint_changes_with_every_key_that_can_change_a_result(key, value):
    assert plan(*BASIS, f"{key}={value}").fingerprint != plan(*BASIS).fingerprint


@pytest.mark.parametrize(("key", "value"), IGNORED.items(), ids=IGNORED)
def test_the_fingerprint_does_not_change_with_names_and_wording(key, value):
    assert plan(*BASIS, f"{key}={value}").fingerprint == plan(*BASIS).fingerprint


@pytest.mark.parametrize(
    "more",
    [{"model_fingerprint": "other"}, {"data_digests": DATA | {"test": "other"}}, {"counts": COUNTS | {"train": 101}}],
    ids=["model", "data", "counts"],
)
def test_the_fingerprint_changes_with_the_contents_of_model_and_data(more):
    known = {"model_fingerprint": "m", "data_digests": DATA}
    assert plan(**(known | more)).fingerprint != plan(**known).fingerprint


def test_the_fingerprint_does_not_depend_on_order_or_wording_of_the_recipe():
    one = parse_recipe("data: {train: t}\nrun: {seed: 3}\nmodel: a/b\n", "r.yaml")
    other = parse_recipe("# note\nmodel:\n  path: a/b\nrun:\n  seed: 3\ndata:\n  train: t\n", "r.yaml")
    assert make_plan(one, COUNTS).fingerprint == make_plan(other, dict(reversed(COUNTS.items()))).fingerprint


def test_the_fingerprint_is_the_same_in_every_process():
    program = (
        "from tspin_mlx.recipe.plan import make_plan; from tspin_mlx.recipe.parse import parse_recipe\n"
        f"recipe = parse_recipe('data: {{train: t.jsonl}}', 'r.yaml', {list(BASIS)!r})\n"
        f"print(make_plan(recipe, {COUNTS!r}).fingerprint)"
    )
    environment = os.environ | {"PYTHONHASHSEED": "12345"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == plan(*BASIS).fingerprint
