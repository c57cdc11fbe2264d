"""A task whose runs are worked on in processes of their own."""

import pytest

from tests.support.digests import run_digests
from tests.support.engine_process import cli
from tests.support.hostile import HOSTILE
from tests.support.small_runs import write_task
from tspin_mlx.runs.run import Run

SETTINGS = {
    "description": HOSTILE.replace("\x9b", ""),
    "lora.rank": 1,
    "lora.dropout": 0.1,
    "generation.max_tokens": 12,
    "generation.batch_size": 1,
    "generation.shard_tokens": 90,
    "objective.alpha": 0.5,
    "objective.nll_weight": 0.5,
    "warmup.epochs": 3,
    "training.epochs": 3,
    "training.micro_batch_size": 2,
    "evaluation.samples": 2,
    "evaluation.max_tokens": 4,
    "run.seed": 3,
    "run.checkpoint_seconds": 0,
}


@pytest.fixture(scope="session")
def task(tmp_path_factory, tiny_model):
    """A folder with a recipe and its data, whose texts try to command the terminal."""

    def row(split, i):
        return {"prompt": f"{split} {HOSTILE} {i}", "response": f"[{i}]{HOSTILE[:9]}"}

    counts = {"train": 8, "validation": 3, "test": 2}
    return write_task(tmp_path_factory.mktemp("task"), tiny_model, SETTINGS, counts=counts, row=row)


@pytest.fixture(scope="session")
def reference(task):
    """What a run that nobody disturbs prints, and ends with."""
    done = cli(task, "run", "task.yaml", "run.name=reference")
    assert done.returncode == 0, done.stderr
    return done, run_digests(Run(task / "runs/reference"))
