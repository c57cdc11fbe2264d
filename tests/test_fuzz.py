"""Damaged files of every kind: a clear error or the same result, never a traceback and never a wrong success."""

import contextlib
import functools
import shutil

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.small_runs import new_run, write_task
from tests.support.tiny_model import tiny_policy
from tspin_mlx.base.errors import DamagedError, DataError, RecipeError, TspinError
from tspin_mlx.data.read import load_examples
from tspin_mlx.engine.worker import work
from tspin_mlx.models.adapters import load_tensors, set_adapter
from tspin_mlx.recipe.catalog import find_recipe, parse_source
from tspin_mlx.recipe.schema import DataSection
from tspin_mlx.runs.event_log import last_events, read_events
from tspin_mlx.runs.run import Run
from tspin_mlx.runs.state import state_of
from tspin_mlx.view.event_text import event_text
from tspin_mlx.view.run_view import RunView, reduce

SETTINGS = {
    "generation.max_tokens": 6,
    "generation.shard_tokens": 70,
    "warmup.epochs": 0,
    "training.iterations": 1,
    "training.batch_size": 2,
    "run.seed": 3,
}


@pytest.fixture(scope="module")
def task(tmp_path_factory, tiny_model):
    counts = {"train": 4, "validation": 2, "test": 2}
    return write_task(tmp_path_factory.mktemp("task"), tiny_model, SETTINGS, counts=counts)


@pytest.fixture(scope="module")
def finished(task, tmp_path_factory):
    run = new_run(task, tmp_path_factory.mktemp("runs"))
    work(run)
    return run


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """Where damaged copies are made."""
    return tmp_path_factory.mktemp("bench")


@st.composite
def damages(draw):
    """Ways to damage a file: flip bytes, cut it, put something in, at places given as shares of its length."""
    place, kind = draw(st.floats(0, 1, exclude_max=True)), draw(st.sampled_from(["flip", "cut", "insert", "zero"]))
    with_what = draw(st.binary(min_size=1, max_size=9))

    def damage(content):
        at = int(place * len(content))
        if kind == "flip":
            return content[:at] + bytes([content[at] ^ (with_what[0] or 1)]) + content[at + 1 :]
        if kind == "cut":
            return content[:at]
        if kind == "zero":
            return content[:at] + bytes(min(16, len(content) - at)) + content[at + 16 :]
        return content[:at] + with_what + content[at:]

    return damage


@given(damages())
def test_a_damaged_recipe_is_read_or_refused(task, bench, damage):
    path = bench / "task.yaml"
    path.write_bytes(damage((task / "task.yaml").read_bytes()))
    try:
        parse_source(find_recipe(str(path)))
    except RecipeError as error:
        assert "task.yaml" in error.message


@given(damages(), st.booleans())
def test_damaged_data_is_read_or_refused(task, bench, damage, skip):
    (bench / "train.jsonl").write_bytes(damage((task / "train.jsonl").read_bytes()))
    section = DataSection(train="train.jsonl", validation_size=1, skip_bad_rows=skip)
    try:
        examples = load_examples(section, bench, 0)
    except DataError as error:
        assert "train.jsonl" in error.message
    else:
        assert 1 <= examples.counts["train"] <= 4


@given(st.lists(damages(), min_size=1, max_size=5))
def test_a_damaged_event_log_is_shown_as_far_as_it_can_be(finished, bench, several):
    path = bench / "run"
    if not path.exists():
        shutil.copytree(finished.path, path, symlinks=True)
    content = finished.events_path.read_bytes()
    for damage in several:
        content = damage(content) or b"\n"
    (path / "events.jsonl").write_bytes(content)
    events = list(read_events(path / "events.jsonl"))
    functools.reduce(reduce, events, RunView())
    for event in events:
        event_text(event)
    last_events(path / "events.jsonl", 500)
    assert state_of(Run(path), 0.0) == "finished"


FILES = [
    "manifest.jsonl", "run.json", "plan.json", "prompts.jsonl", "recipe.yaml", "initial/eval.json",
    "initial/adapter/adapters.safetensors", "initial/adapter/adapter_config.json",
    "iterations/000/proto_synthetic/shard-0001.jsonl", "iterations/000/triplets.jsonl",
    "iterations/000/adapter/adapters.safetensors", "iterations/000/eval.json",
]  # fmt: skip


def answers(run):
    return {name: (run.path / name).read_text() for name in ("result.json", "test.json")}


@settings(max_examples=60)
@given(st.sampled_from(FILES), damages())
def test_a_run_with_a_damaged_file_is_refused_or_ends_the_same(finished, bench, name, damage):
    """The last two phases are left to do, so that the run is really resumed."""
    path = bench / "resumed" / finished.name
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(finished.path, path, symlinks=True)
    for answer in ("result.json", "test.json"):
        (path / answer).unlink()
    whole = (path / name).read_bytes()
    damaged = damage(whole)
    (path / name).write_bytes(damaged)
    try:
        run = Run(path)
        work(run)
    except DamagedError as error:
        assert str(path) in error.message
        assert damaged != whole
    else:
        # The manifest may lose what it says of files that are gone, and nothing else.
        assert damaged == whole or name == "manifest.jsonl"
        assert answers(run) == answers(finished)


@settings(max_examples=150)
@given(damages())
def test_a_damaged_tensor_file_is_refused_or_read_without_harm(finished, bench, policy, damage):
    """Below the digests: whatever the header says, nothing but finite tensors of the right shapes gets in."""
    folder = bench / "adapter"
    shutil.copytree(finished.path / "initial/adapter", folder, dirs_exist_ok=True)
    file = folder / "adapters.safetensors"
    content = file.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    file.write_bytes(damage(content[:header]) + content[header:])
    shapes = {name: value.shape for name, value in policy.adapter().items()}
    with contextlib.suppress(TspinError):
        set_adapter(policy, folder)
    adapter = policy.adapter()
    assert {name: value.shape for name, value in adapter.items()} == shapes
    assert all(mx.isfinite(value).all().item() for value in adapter.values())


@pytest.fixture(scope="module")
def policy(tiny_model):
    return tiny_policy(tiny_model, rank=2)


def test_a_tensor_file_that_is_something_else_is_refused(tmp_path):
    for content in (b"", b"\0" * 8, b"\xff" * 64, b'{"a": 1}' * 9, (10**15).to_bytes(8, "little") + b"{}"):
        (tmp_path / "x.safetensors").write_bytes(content)
        with pytest.raises(DamagedError, match="cannot be read"):
            load_tensors(tmp_path / "x.safetensors")
