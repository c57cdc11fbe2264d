"""A run's policies by name, and loaded."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from tests.support.digests import adapter_digest
from tests.support.small_runs import new_run, write_task
from tspin_mlx.base.errors import DamagedError, SetupError, UsageError
from tspin_mlx.engine.worker import work
from tspin_mlx.models.of_run import load_run, use_policy
from tspin_mlx.runs.policies import best_so_far, find_policy, policies
from tspin_mlx.runs.run import Run


@pytest.fixture(scope="module")
def task(tmp_path_factory, tiny_model):
    settings = {"data.validation": None, "data.validation_size": 3, "data.test": None, "generation.max_tokens": 4}
    return write_task(tmp_path_factory.mktemp("task"), tiny_model, settings, counts={"train": 8})


def made(task, *overrides):
    return new_run(task, task / "runs", *overrides)


@pytest.fixture(scope="module")
def run(small_run):
    return Run(small_run)


def test_policies_have_names_in_the_order_they_were_made(run):
    assert list(policies(run)) == ["base", "initial", "iteration 0", "iteration 1", "best"]
    assert find_policy(run, "base") == "base"
    assert find_policy(run, 1) == find_policy(run, "1") == find_policy(run, "iteration 1") == "iterations/001"
    assert find_policy(run, "best") == run.result()["best"] == best_so_far(run)["best"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        (2, "it has: base, initial, iteration 0, iteration 1, best"),
        ("bse", "did you mean base?"),
        ("../x", "base, initial"),
        ("-1", "base, initial"),
        ("²", ""),
    ],
)
def test_an_unknown_policy_is_named_with_those_there_are(run, name, hint):
    with pytest.raises(UsageError, match="has no policy") as caught:
        find_policy(run, name)
    assert hint in caught.value.hint


def test_a_policy_that_is_not_made_yet_is_told_from_one_that_never_will_be(task):
    fresh = made(task, "run.name=fresh")
    assert policies(fresh) == {}
    for name, yet in (("initial", True), (0, True), (7, False)):
        with pytest.raises(UsageError) as caught:
            find_policy(fresh, name)
        assert caught.value.message.endswith(" yet") == yet


def test_without_a_warm_up_the_base_model_is_the_initial_policy(task):
    cold = made(task, "run.name=cold", "warmup.epochs=0", "training.iterations=1")
    work(cold)
    assert policies(cold)["base"] == "initial"
    assert list(policies(cold)) == ["base", "initial", "iteration 0", "best"]


def test_a_damaged_adapter_is_refused(task):
    run = made(task, "run.name=hurt", "training.iterations=1")
    work(run)
    file = run.path / "iterations/000/adapter/adapters.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(DamagedError, match=r"adapters\.safetensors"):
        find_policy(run, 0)
    assert find_policy(run, "initial") == "initial"


def test_a_loaded_run_answers_as_the_policy_that_is_used(run, tmp_path):
    policy = load_run(run, run.plan().recipe)
    probe = mx.array([[5, 6, 7]])
    plain = np.array(policy.model(probe))
    assert use_policy(policy, run, 1) == "iterations/001"
    trained = np.array(policy.model(probe))
    assert np.abs(trained - plain).max() > 1e-3
    mx.save_safetensors(str(tmp_path / "adapters.safetensors"), policy.adapter())
    assert adapter_digest(tmp_path) == adapter_digest(run.path / "iterations/001/adapter")
    use_policy(policy, run, "base")
    np.testing.assert_array_equal(np.array(policy.model(probe)), plain)


def test_the_model_must_be_the_one_the_run_was_made_with(run, task, tmp_path):
    other = made(task, "run.name=moved")
    other.about["model"]["fingerprint"] = "0" * 64
    with pytest.raises(SetupError, match="files have changed since the run was created"):
        load_run(other, other.plan().recipe)
    assert isinstance(Run(other.path), Run) and Path(other.about["model"]["path"]).is_dir()
