"""The whole loop on a tiny llama: what it writes, and that it repeats itself exactly."""

import shutil
import time

import mlx.core as mx
import pytest
from mlx_lm.utils import load

from tests.support.digests import run_digests
from tests.support.small_runs import make_small_run, new_run, work_on
from tests.support.tiny_model import save_tiny_model
from tspin_mlx.base.errors import BusyError, StorageError
from tspin_mlx.engine.worker import work
from tspin_mlx.method.triplets import triplet_from_row
from tspin_mlx.recipe.policy_names import BASE, INITIAL
from tspin_mlx.runs.lock import is_held
from tspin_mlx.runs.run import Run
from tspin_mlx.runs.state import state_of
from tspin_mlx.runs.store import Store


def results(run):
    """Everything a run found out, without times."""
    files = [*run.path.glob("**/*.json"), *run.path.glob("**/*.jsonl")]
    kept = [
        f
        for f in files
        if f.name not in ("events.jsonl", "run.json", "manifest.jsonl") and "adapter" not in f.parent.name
    ]
    return {str(f.relative_to(run.path)): f.read_text() for f in kept}


def test_every_phase_leaves_its_target(finished):
    run, _ = finished
    assert run.is_finished
    found = {str(path.relative_to(run.path)) for path in run.path.glob("**/*")}
    assert {
        "run.json", "recipe.yaml", "plan.json", "prompts.jsonl", "events.jsonl", "base/eval.json",
        "initial/adapter/adapters.safetensors", "initial/adapter/adapter_config.json", "initial/eval.json",
        "iterations/000/proto_synthetic/shard-0000.jsonl", "iterations/000/proto_synthetic/shard-0002.jsonl",
        "iterations/000/triplets.jsonl", "iterations/000/adapter/adapters.safetensors", "iterations/000/eval.json",
        "iterations/001/synthetic/shard-0000.jsonl", "iterations/001/triplets.jsonl", "result.json", "test.json",
    } <= found  # fmt: skip
    assert not [name for name in found if "partial" in name]


def test_triplets_are_what_was_sampled(finished):
    run = finished[0]
    first = [triplet_from_row(row) for row in run.store.read_jsonl("iterations/000/triplets.jsonl")]
    second = [triplet_from_row(row) for row in run.store.read_jsonl("iterations/001/triplets.jsonl")]
    assert [t.prompt for t in first] == list(run.prompts().train) == [t.prompt for t in second]
    # Iteration 0: one sample, used as y', and no historical term. Later: that sample is y0.
    assert all(t.proto_synthetic is None for t in first)
    assert [t.proto_synthetic for t in second] == [t.synthetic for t in first]
    assert [t.synthetic for t in second] != [t.synthetic for t in first]


def test_iteration_0_has_no_historical_advantage_and_later_ones_have(finished):
    steps = [event for event in finished[1] if event["kind"] == "step" and event["iteration"] is not None]
    assert {event["iteration"]: "advantage/historical" in event for event in steps} == {0: False, 1: True}
    assert all("advantage/current" in event for event in steps)


def test_the_best_policy_is_chosen_among_all_that_were_measured(finished):
    run = finished[0]
    result = run.result()
    assert set(result["candidates"]) == {BASE, INITIAL, "iterations/000", "iterations/001"}
    assert result["value"] == min(result["candidates"].values())
    assert (run.path / "best").resolve() == (run.path / result["best"] / "adapter").resolve()
    assert set(run.test()) == {BASE, INITIAL, result["best"]}


def test_held_out_advantages_use_the_answers_of_the_policies_before(finished):
    evaluations = finished[0].evaluations()
    assert "advantage_current" not in evaluations[BASE]["metrics"]
    assert evaluations[INITIAL]["metrics"]["advantage_historical"] == 0
    assert evaluations["iterations/000"]["metrics"]["advantage_historical"] == 0
    initial, first = (evaluations[name]["responses"] for name in (INITIAL, "iterations/000"))
    if initial != first:
        assert evaluations["iterations/001"]["metrics"]["advantage_historical"] != 0


def test_the_saved_adapter_is_the_policy_that_was_evaluated(finished, tiny_model):
    """mlx-lm with the adapter gives the likelihood that the evaluation wrote down."""
    run = finished[0]
    model, _ = load(str(tiny_model), adapter_path=str(run.path / "iterations/001/adapter"))
    total, tokens = 0.0, 0
    for prompt in run.prompts().validation:
        ids = mx.array([[*prompt.tokens, *prompt.annotated.tokens]])
        logits = model(ids[:, :-1])
        logprobs = (logits - mx.logsumexp(logits, axis=-1, keepdims=True))[0, len(prompt.tokens) - 1 :]
        total += mx.take_along_axis(logprobs, mx.array(prompt.annotated.tokens)[:, None], axis=-1).sum().item()
        tokens += len(prompt.annotated.tokens)
    nll = run.evaluations()["iterations/001"]["metrics"]["nll"]
    assert nll == pytest.approx(-total / tokens, rel=1e-5)


def test_the_same_seed_gives_the_same_run(finished, workshop, tmp_path):
    run = new_run(workshop, tmp_path)
    work_on(run)
    assert run_digests(run) == run_digests(finished[0])
    again, first = results(run), results(finished[0])
    assert again.keys() == first.keys()
    # Times and the folder's name aside, every file is the same to the byte.
    for name in first.keys() - {"plan.json"}:
        assert again[name] == first[name], name


def test_another_seed_gives_another_run(finished, workshop, tmp_path):
    run = new_run(workshop, tmp_path, "run.seed=4")
    work_on(run)
    assert run_digests(run)["iterations/001/adapter"] != run_digests(finished[0])["iterations/001/adapter"]


@pytest.mark.parametrize("grad_checkpoint", ["false", "true"])
def test_heads_of_a_size_for_which_gpus_have_kernels(tmp_path, grad_checkpoint):
    save_tiny_model(tmp_path, head_dim=64)  # on a Mac attention for few queries is another kernel, without a gradient
    run = Run(make_small_run(tmp_path, tmp_path, f"training.grad_checkpoint={grad_checkpoint}"))
    assert run.is_finished


def test_a_run_that_would_not_fit_on_the_disk_does_not_begin(workshop, tmp_path, monkeypatch):
    run = new_run(workshop, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 10**6, 10**6))
        with pytest.raises(StorageError, match=r"1 MB are free, but the run may need 1\d MB"):
            work(run)
    work(run)
    assert run.is_finished


def test_while_it_works_in_this_process_a_run_is_locked(workshop, tmp_path):
    run, seen = new_run(workshop, tmp_path, "training.iterations=1"), []

    def listener(event):
        if event["kind"] == "phase_started" and not seen:
            seen.append((is_held(run.path), state_of(run, time.time())))
            with pytest.raises(BusyError):
                work(run)

    work(run, listener)
    assert seen == [(True, "running")]
    assert not is_held(run.path)


@pytest.mark.parametrize("stop", ["false", "true"])
def test_files_are_read_in_proportion_to_the_iterations(workshop, tmp_path, monkeypatch, stop):
    """An evaluation reads as much after many iterations as after few."""
    reads = []
    read = Store._read
    monkeypatch.setattr(Store, "_read", lambda store, name: reads.append(name) or read(store, name))

    def read_in(iterations):
        never = ("guard.nll_rise=99", "guard.stop_rate_drop=1", "guard.truncated_rise=1")
        options = ("warmup.epochs=0", f"training.iterations={iterations}", f"guard.stop={stop}", *never)
        run = new_run(workshop, tmp_path / str(iterations), *options)
        reads.clear()
        work_on(run)
        return len(reads)

    two, three, four = map(read_in, (2, 3, 4))
    assert four - three == three - two
