"""A task and a finished run of it, for the tests of what the engine does in one process."""

import pytest

from tests.support.small_runs import new_run, work_on, write_task

SETTINGS = {
    "lora.rank": 4,
    "generation.shard_tokens": 120,
    "objective.alpha": 0.5,
    "objective.nll_weight": 0.5,
    "training.micro_batch_size": 2,
    "evaluation.metrics": ["exact_match", "json_valid"],
    "evaluation.best": "nll",
    "evaluation.samples": 1,
    "evaluation.max_tokens": 4,
    "run.seed": 3,
}


@pytest.fixture(scope="session")
def workshop(tmp_path_factory, tiny_model):
    """A recipe with its data."""
    return write_task(tmp_path_factory.mktemp("workshop"), tiny_model, SETTINGS)


@pytest.fixture(scope="session")
def finished(workshop, tmp_path_factory):
    """A finished run and its events."""
    run = new_run(workshop, tmp_path_factory.mktemp("runs"))
    return run, work_on(run)
