"""Checkpoints within a phase: training continues from them exactly, and a damaged one is passed over."""

import dataclasses

import mlx.core as mx
import numpy as np
import pytest

from tspin_mlx.base.errors import DamagedError, SetupError, StorageError
from tspin_mlx.method.objective import Objective
from tspin_mlx.method.triplets import Prompt, Response
from tspin_mlx.models.folder import resolve_model
from tspin_mlx.models.load import load_policy
from tspin_mlx.recipe.plan import TrainConfig
from tspin_mlx.recipe.schema import LoraSection, ModelSection
from tspin_mlx.runs.store import Store
from tspin_mlx.training.checkpoints import Checkpoints
from tspin_mlx.training.trainer import Trainer

TARGET = "iterations/000/adapter"
FOLDER = "iterations/000/checkpoints"
UPDATES = TrainConfig(
    steps=4,
    epochs=2,
    batch_size=2,
    micro_batch_size=1,
    optimizer="adamw",
    learning_rate=1e-2,
    schedule="linear",
    warmup_steps=1,
    weight_decay=0.1,
    max_grad_norm=1.0,
    grad_checkpoint=False,
)


def response(*tokens):
    return Response(tokens, "")


EXAMPLES = [
    (Prompt(f"row-{i}", (5, 6 + i), "", response(9, 1), ""), (response(9, 1), response(7, 8 + i, 1), response(3, 1)))
    for i in range(4)
]


def trainer(tiny_model, **changes):
    """A fresh adapter, with a trainer that drops out, so that the randomness of each step matters."""
    model = resolve_model(ModelSection(path=str(tiny_model)))
    policy = load_policy(model, "auto", LoraSection(rank=2, dropout=0.2, keys=("self_attn.q_proj",)), 0)
    return Trainer(policy, Objective(alpha=0.5, beta=0.1), dataclasses.replace(UPDATES, **changes), seed=3)


def adapter(trained):
    return {name: np.array(value) for name, value in trained.policy.adapter().items()}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


@pytest.fixture
def heard():
    """What was said meanwhile."""
    return []


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


@pytest.fixture
def checkpoints(store, heard):
    return Checkpoints(store, TARGET, lambda kind, **fields: heard.append(f"{kind}: {fields['message']}"))


@pytest.fixture
def saved(tiny_model, checkpoints):
    """Checkpoints after steps 1, 2 and 3 of 4, and the adapter at the end."""
    made = trainer(tiny_model)
    made.run(EXAMPLES, lambda step, metrics: checkpoints.save(made, step) if step < 4 else None)
    return adapter(made)


def names(store):
    return sorted(path.name for path in (store.root / FOLDER).iterdir())


def spoil(store, name):
    path = store.root / FOLDER / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_without_a_checkpoint_nothing_is_changed(tiny_model, checkpoints, heard, tmp_path):
    made = trainer(tiny_model)
    before = adapter(made)
    assert checkpoints.restore(made) == 0
    assert_equal(adapter(made), before)
    checkpoints.clear()
    assert heard == [] and list(tmp_path.iterdir()) == []


def test_the_two_newest_are_kept(saved, store):
    assert names(store) == ["step-000002", "step-000003"]
    for name in names(store):
        assert sorted(path.name for path in (store.root / FOLDER / name).iterdir()) == [
            "adapter_config.json",
            "adapters.safetensors",
            "first_logps.json",
            "optimizer.safetensors",
        ]
        assert store.is_intact(f"{FOLDER}/{name}")


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "rmsprop", "lion"])
def test_training_continues_as_if_it_had_never_stopped(tiny_model, checkpoints, heard, optimizer):
    decay = 0.1 if optimizer in ("adamw", "lion") else 0.0
    whole = trainer(tiny_model, optimizer=optimizer, weight_decay=decay)
    seen = []

    def on_step(step, metrics):
        seen.append((step, metrics["epoch"], metrics["learning_rate"], metrics["loss"], metrics["grad_norm"]))
        if step == 2:
            checkpoints.save(whole, step)

    whole.run(EXAMPLES, on_step)
    mx.random.seed(99)
    resumed = trainer(tiny_model, optimizer=optimizer, weight_decay=decay)
    done = checkpoints.restore(resumed)
    assert done == 2
    again = []
    resumed.run(
        EXAMPLES,
        lambda step, m: again.append((step, m["epoch"], m["learning_rate"], m["loss"], m["grad_norm"])),
        done,
    )
    assert again == seen[2:]
    assert [step for step, *_ in again] == [3, 4]
    assert_equal(adapter(resumed), adapter(whole))
    assert resumed.first_logps == whole.first_logps
    assert {name: len(found) for name, found in whole.first_logps.items()} == {f"row-{i}": 3 for i in range(4)}
    assert heard == []


def test_the_newest_is_restored_with_the_optimisers_memory(tiny_model, saved, checkpoints):
    made = trainer(tiny_model)
    assert checkpoints.restore(made) == 3
    state = made.optimizer_state()
    assert state["step"].item() == 3
    moments = [name for name in state if name.endswith((".m", ".v"))]
    assert len(moments) == 2 * len(made.policy.adapter())
    assert any(np.abs(np.array(state[name])).max() > 0 for name in moments)
    made.run(EXAMPLES, lambda step, metrics: None, 3)
    assert_equal(adapter(made), saved)


@pytest.mark.parametrize(
    "file", ["adapters.safetensors", "adapter_config.json", "first_logps.json", "optimizer.safetensors"]
)
def test_a_damaged_checkpoint_is_passed_over_and_named(tiny_model, saved, store, checkpoints, heard, file):
    spoil(store, f"step-000003/{file}")
    made = trainer(tiny_model)
    assert checkpoints.restore(made) == 2
    assert heard == [f"warning: {FOLDER}/step-000003/{file} is damaged: resuming from the checkpoint before it"]
    # It continues to where the damaged one was, and saves again under its name.
    made.run(EXAMPLES, lambda step, metrics: checkpoints.save(made, step) if step < 4 else None, 2)
    assert_equal(adapter(made), saved)
    assert names(store) == ["step-000002", "step-000003"]
    assert store.is_intact(f"{FOLDER}/step-000003")


def test_a_checkpoint_that_misses_a_file_is_passed_over(tiny_model, saved, store, checkpoints, heard):
    (store.root / FOLDER / "step-000003" / "optimizer.safetensors").unlink()
    assert checkpoints.restore(trainer(tiny_model)) == 2
    assert len(heard) == 1


def test_with_all_checkpoints_damaged_the_phase_begins_anew(tiny_model, saved, store, checkpoints, heard):
    for name in names(store):
        spoil(store, f"{name}/adapters.safetensors")
    made = trainer(tiny_model)
    before = adapter(made)
    assert checkpoints.restore(made) == 0
    assert_equal(adapter(made), before)
    assert [message.split("/")[3] for message in heard] == ["step-000003", "step-000002"]
    made.run(EXAMPLES, lambda step, metrics: checkpoints.save(made, step) if step < 4 else None)
    assert_equal(adapter(made), saved)


def test_a_half_written_checkpoint_is_neither_used_nor_in_the_way(tiny_model, saved, store, checkpoints, heard):
    aside = store.root / FOLDER / ".step-000004.99999999.partial"  # no process can have this number
    aside.mkdir()
    (aside / "adapters.safetensors").write_bytes(b"half")
    made = trainer(tiny_model)
    assert checkpoints.restore(made) == 3
    checkpoints.save(made, 4)
    assert names(store) == ["step-000003", "step-000004"]
    assert heard == []


def test_the_newest_is_the_one_with_the_highest_number(tiny_model, store, checkpoints):
    made = trainer(tiny_model)
    for step in (9, 10, 100):
        checkpoints.save(made, step)
    assert names(store) == ["step-000010", "step-000100"]
    assert checkpoints.restore(made) == 100


@pytest.mark.parametrize("target", ["iterations/001/adapter", "initial/adapter"])
def test_each_phase_has_its_own(tiny_model, saved, store, target):
    assert Checkpoints(store, target, print).restore(trainer(tiny_model)) == 0


def test_a_phase_that_is_done_has_none(saved, store, checkpoints):
    checkpoints.clear()
    assert not (store.root / FOLDER).exists()


def test_a_checkpoint_that_cannot_be_written_leaves_those_before(tiny_model, saved, store, checkpoints, monkeypatch):
    def fail(path, tensors, metadata):
        raise RuntimeError("[save_safetensors] no space")

    made = trainer(tiny_model)
    monkeypatch.setattr("mlx.core.save_safetensors", fail)
    with pytest.raises(StorageError, match="no space"):
        checkpoints.save(made, 4)
    assert names(store) == ["step-000002", "step-000003"]
    assert checkpoints.restore(made) == 3


def test_a_checkpoint_of_another_optimiser_is_refused(tiny_model, saved, checkpoints):
    with pytest.raises(SetupError, match="not this run's optimiser state"):
        checkpoints.restore(trainer(tiny_model, optimizer="lion"))


def test_a_checkpoint_whose_digests_are_gone_is_not_believed(tiny_model, saved, store, checkpoints):
    (store.root / "manifest.jsonl").unlink()
    with pytest.raises(DamagedError, match=r"manifest\.jsonl"):
        checkpoints.restore(trainer(tiny_model))
