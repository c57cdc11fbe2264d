"""The trainer on a tiny llama: accumulation is exact, seeds decide everything, bad numbers stop it."""

import dataclasses

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_unflatten

from tspin_mlx.base.errors import DivergedError
from tspin_mlx.method.objective import SUPERVISED, Objective
from tspin_mlx.method.triplets import Prompt, Response
from tspin_mlx.models.folder import resolve_model
from tspin_mlx.models.load import load_policy
from tspin_mlx.recipe.plan import TrainConfig
from tspin_mlx.recipe.schema import LoraSection, ModelSection
from tspin_mlx.scoring.collate import micro_batches
from tspin_mlx.training.grad_checkpoint import grad_checkpointed
from tspin_mlx.training.trainer import Trainer

CONFIG = TrainConfig(
    steps=4,
    epochs=2,
    batch_size=4,
    micro_batch_size=4,
    optimizer="adamw",
    learning_rate=1e-2,
    schedule="linear",
    warmup_steps=1,
    weight_decay=0.0,
    max_grad_norm=1.0,
    grad_checkpoint=False,
)


def examples(responses=3, count=8):
    rng = np.random.default_rng(0)

    def tokens(length):
        return tuple(int(t) for t in rng.integers(2, 250, length))

    made = []
    for i in range(count):
        answers = tuple(Response(tokens(int(rng.integers(2, 9))), "") for _ in range(responses))
        made.append((Prompt(f"row-{i}", tokens(int(rng.integers(3, 12))), "", answers[0], ""), answers))
    return made


def fresh(tiny_model, **lora):
    return load_policy(resolve_model(ModelSection(path=str(tiny_model))), "auto", LoraSection(rank=4, **lora), 0)


def trained(tiny_model, config=CONFIG, objective=None, seed=0, rows=None, **lora):
    policy = fresh(tiny_model, **lora)
    log = []
    objective = objective or Objective(alpha=0.5, beta=0.1)
    trainer = Trainer(policy, objective, config, seed)
    trainer.run(rows or examples(), lambda step, metrics: log.append(metrics))
    return {name: np.array(value) for name, value in policy.adapter().items()}, log


def test_in_float16_small_gradients_do_not_vanish(tiny_model):
    def gradients(dtype, scale=None):
        folder = resolve_model(ModelSection(path=str(tiny_model)))
        policy = load_policy(folder, dtype, LoraSection(rank=4), 0)
        assert policy.loss_scale == (64 if dtype == "float16" else 1)
        if scale is not None:
            policy.loss_scale = scale
        trainer = Trainer(policy, Objective(alpha=1e-5), CONFIG, 0)
        loss, grads, _ = trainer._accumulated(examples(2, 4))
        return loss.item(), np.concatenate([np.array(value).ravel() for _, value in tree_flatten(grads)])

    (loss, expected), (half_loss, found), (_, unscaled) = (
        gradients("float32"), gradients("float16"), gradients("float16", 1.0)
    )  # fmt: skip
    off, off_unscaled = (np.linalg.norm(value - expected) / np.linalg.norm(expected) for value in (found, unscaled))
    assert off < 0.1 and off_unscaled > 3 * off
    assert half_loss == pytest.approx(loss, rel=1e-3)


@pytest.mark.parametrize("grad_checkpoint", [False, True])
def test_in_float16_what_is_logged_is_not_scaled(tiny_model, grad_checkpoint):
    def first_step(dtype):
        log = []
        policy = load_policy(resolve_model(ModelSection(path=str(tiny_model))), dtype, LoraSection(rank=4), 0)
        trainer = Trainer(
            policy, Objective(alpha=0.5, beta=0.1), dataclasses.replace(CONFIG, grad_checkpoint=grad_checkpoint), 0
        )
        trainer.run(examples(count=1) * 8, lambda step, metrics: log.append(metrics))  # of one shape
        assert bool(trainer._worth_compiling) == (not grad_checkpoint)
        return log[0]

    half, whole = first_step("float16"), first_step("float32")
    for name in ("loss", "grad_norm"):
        assert half[name] == pytest.approx(whole[name], rel=0.02)


def assert_close(found, expected, rtol=1e-4):
    assert found.keys() == expected.keys()
    for name in expected:
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(found[name], expected[name], rtol=rtol, atol=rtol * scale, err_msg=name)


def first_gradients(tiny_model, config, objective, rows):
    trainer = Trainer(fresh(tiny_model), objective, config, 0)
    trainer.policy.model.load_weights(
        [(name, value + 0.05) for name, value in trainer.policy.adapter().items()], strict=False
    )
    with grad_checkpointed(trainer.policy.model, config.grad_checkpoint):
        loss, grads, _ = trainer._accumulated(rows)
    return loss.item(), {name: np.array(value) for name, value in tree_flatten(grads)}


OBJECTIVE = Objective(alpha=0.5, beta=0.3, nll_weight=0.7, entropy_weight=0.2)


@pytest.mark.parametrize("change", [{"micro_batch_size": 1}, {"micro_batch_size": 3}, {"grad_checkpoint": True}])
def test_micro_batches_and_recomputation_change_no_gradient(tiny_model, change):
    expected = first_gradients(tiny_model, CONFIG, OBJECTIVE, examples(count=4))
    found = first_gradients(tiny_model, dataclasses.replace(CONFIG, **change), OBJECTIVE, examples(count=4))
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    for name, gradient in expected[1].items():
        assert np.abs(gradient).max() > 0, name
        np.testing.assert_allclose(found[1][name], gradient, rtol=1e-4, atol=1e-5 * np.abs(gradient).max())


def test_dropout_drops_the_same_when_a_layer_is_computed_again(tiny_model, monkeypatch):
    def gradients():
        trainer = Trainer(
            fresh(tiny_model, dropout=0.5), OBJECTIVE, dataclasses.replace(CONFIG, grad_checkpoint=True), 0
        )
        changed = [(name, value + 0.05) for name, value in trainer.policy.adapter().items()]
        trainer.policy.model.load_weights(changed, strict=False)
        trainer.policy.model.train()
        trainer._seed(1)
        with grad_checkpointed(trainer.policy.model, True, trainer._layer_seeds):
            loss, grads, _ = trainer._accumulated(examples(count=4))
        return loss.item(), {name: np.array(value) for name, value in tree_flatten(grads)}

    loss, found = gradients()
    monkeypatch.setattr(mx, "checkpoint", lambda inner: inner)  # computed once, everything kept
    kept, expected = gradients()
    assert loss == pytest.approx(kept, rel=1e-6)
    assert_close(found, expected)


@pytest.mark.parametrize("grad_checkpoint", [False, True])
def test_steps_and_layers_drop_different_inputs(tiny_model, grad_checkpoint):
    trainer = Trainer(
        fresh(tiny_model, dropout=0.5), OBJECTIVE, dataclasses.replace(CONFIG, grad_checkpoint=grad_checkpoint), 0
    )
    model = trainer.policy.model
    changed = [(name, value + 0.05) for name, value in trainer.policy.adapter().items()]
    model.load_weights(changed, strict=False)
    model.train()
    with grad_checkpointed(model, grad_checkpoint, trainer._layer_seeds):
        losses = []
        for number in (1, 2, 1):
            trainer._seed(number)
            losses.append(trainer._accumulated(examples(count=4))[0].item())
    assert losses[0] == losses[2] != losses[1]


def test_the_same_seed_gives_the_same_adapter_and_another_seed_another(tiny_model):
    first, _ = trained(tiny_model, dropout=0.2)
    again, _ = trained(tiny_model, dropout=0.2)
    other, _ = trained(tiny_model, seed=1, dropout=0.2)
    assert all((first[name] == again[name]).all() for name in first)
    assert any((first[name] != other[name]).any() for name in first)


def test_supervised_training_lowers_the_loss(tiny_model):
    config = dataclasses.replace(CONFIG, steps=40, epochs=20, warmup_steps=0)
    _, log = trained(tiny_model, config, SUPERVISED, rows=examples(responses=1))
    assert log[-1]["loss"] < 0.7 * log[0]["loss"]


def test_self_play_raises_the_current_advantage(tiny_model):
    # One batch is all there is, so that the steps can be compared.
    config = dataclasses.replace(CONFIG, steps=20, epochs=20, batch_size=8, warmup_steps=0)
    _, log = trained(tiny_model, config, Objective(alpha=0.5, beta=0.1))
    assert log[-1]["advantage/current"] > log[0]["advantage/current"] + 5
    assert log[-1]["loss"] < log[0]["loss"]


def test_recomputation_leaves_the_layers_as_they_were(tiny_model):
    policy = fresh(tiny_model)
    kind = type(policy.model.layers[0])
    before = kind.__call__
    Trainer(policy, SUPERVISED, dataclasses.replace(CONFIG, grad_checkpoint=True), 0).run(examples(1), lambda *_: None)
    assert kind.__call__ is before


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "rmsprop", "lion"])
def test_every_optimizer_moves_the_adapter(tiny_model, optimizer):
    before = {name: np.array(value) for name, value in fresh(tiny_model).adapter().items()}
    after, log = trained(tiny_model, dataclasses.replace(CONFIG, optimizer=optimizer, learning_rate=1e-3))
    assert all(np.isfinite(value).all() for value in after.values())
    assert any((after[name] != before[name]).any() for name in after)
    assert len(log) == 4


def test_only_the_adapter_is_trained(tiny_model):
    policy = fresh(tiny_model)
    frozen = np.array(policy.model.layers[0].mlp.up_proj.linear.weight)
    Trainer(policy, SUPERVISED, CONFIG, 0).run(examples(1), lambda *_: None)
    assert (np.array(policy.model.layers[0].mlp.up_proj.linear.weight) == frozen).all()


def test_clipping_bounds_the_update(tiny_model):
    plain = dataclasses.replace(CONFIG, optimizer="rmsprop", max_grad_norm=None)
    clipped = dataclasses.replace(plain, max_grad_norm=1e-9)
    moved, still = trained(tiny_model, plain)[0], trained(tiny_model, clipped)[0]
    start = {name: np.array(value) for name, value in fresh(tiny_model).adapter().items()}
    assert max(np.abs(moved[n] - start[n]).max() for n in start) > 1e-3
    assert max(np.abs(still[n] - start[n]).max() for n in start) < 1e-3


@pytest.mark.parametrize("broken", [float("inf"), float("nan")])
def test_a_gradient_that_is_not_finite_is_no_update(tiny_model, monkeypatch, broken):
    trainer, accumulated = Trainer(fresh(tiny_model), SUPERVISED, CONFIG, 0), Trainer._accumulated

    def one_is_broken(self, batch):
        loss, grads, seen = accumulated(self, batch)
        name, value = tree_flatten(grads)[0]
        return loss, tree_unflatten([*tree_flatten(grads)[1:], (name, mx.full(value.shape, broken))]), seen

    monkeypatch.setattr(Trainer, "_accumulated", one_is_broken)
    before = {n: np.array(v) for n, v in (trainer.policy.adapter() | trainer.optimizer_state()).items()}
    with pytest.raises(DivergedError, match=r"step 1: the gradient is not finite \(examples: row-"):
        trainer.run(examples(1), lambda *_: None)
    for n, v in (trainer.policy.adapter() | trainer.optimizer_state()).items():
        np.testing.assert_array_equal(np.array(v), before[n])


def test_a_step_logs_the_metrics_of_the_design(tiny_model):
    _, log = trained(tiny_model)
    wanted = {
        "loss", "learning_rate", "grad_norm", "entropy", "logps/chosen", "logps/rejected", "logps/initial",
        "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "advantage/current",
        "advantage/current_min", "advantage/current_max", "advantage/current_per_token", "advantage/historical",
        "length/chosen", "stops/rejected", "memory/active_bytes", "memory/peak_bytes", "tokens_per_s", "epoch",
    }  # fmt: skip
    assert wanted <= log[0].keys()
    assert [m["learning_rate"] for m in log] == pytest.approx([0.005, 0.01, 0.01 * 2 / 3, 0.01 / 3])
    assert log[-1]["epoch"] == 2


def test_a_non_finite_loss_stops_before_the_update_and_names_step_and_examples(tiny_model):
    policy = fresh(tiny_model)
    name, value = next(iter(policy.adapter().items()))
    policy.model.load_weights([(name, mx.full(value.shape, float("nan")))], strict=False)
    before = {n: np.array(v) for n, v in policy.adapter().items()}
    with pytest.raises(DivergedError, match=r"step 1: the loss is not finite \(examples: row-") as error:
        Trainer(policy, SUPERVISED, CONFIG, 0).run(examples(1), lambda *_: None)
    assert error.value.exit_code == 6
    for n, v in policy.adapter().items():
        np.testing.assert_array_equal(np.array(v), before[n])


def test_dora_trains_too(tiny_model):
    after, _ = trained(tiny_model, kind="dora")
    assert any(name.endswith(".m") for name in after)


def test_shapes_that_recur_are_compiled_up_to_a_limit(tiny_model, monkeypatch):
    trainer = Trainer(fresh(tiny_model), OBJECTIVE, CONFIG, 0)
    once, often = examples(count=2), examples(count=4)
    trainer.compile_for([once, often, often])
    micros = [trainer.policy.scorer.collate(micro) for micro in micro_batches(often, CONFIG.micro_batch_size)]
    assert trainer._worth_compiling >= {micro.signature for micro in micros}
    monkeypatch.setattr("tspin_mlx.training.trainer._COMPILED_SHAPES", 1)
    trainer.compile_for([often] * 3)
    assert len(trainer._worth_compiling) == 1
    trainer.compile_for([])
    assert not trainer._worth_compiling


def test_compiled_and_plain_steps_agree(tiny_model):
    rows = examples(count=4)

    def gradients(compiled):
        trainer = Trainer(fresh(tiny_model), OBJECTIVE, CONFIG, 0)
        if compiled:
            trainer.compile_for([rows, rows])
            assert trainer._worth_compiling
        loss, grads, _ = trainer._accumulated(rows)
        return loss.item(), {name: np.array(value) for name, value in tree_flatten(grads)}

    (plain, expected), (compiled, found) = gradients(False), gradients(True)
    assert compiled == pytest.approx(plain, rel=1e-6)
    for name, gradient in expected.items():
        np.testing.assert_allclose(found[name], gradient, rtol=1e-4, atol=1e-5 * np.abs(gradient).max())


def test_memory_is_measured_in_the_way_of_training(tiny_model, monkeypatch):
    """Some models' kernels for answering have no gradient."""
    trainer, seen = Trainer(fresh(tiny_model), OBJECTIVE, CONFIG, 0), []
    monkeypatch.setattr(trainer, "_accumulated", lambda batch: seen.append(trainer.policy.model.training))
    trainer.peak_bytes(examples(count=1))
    assert seen == [True] and not trainer.policy.model.training
