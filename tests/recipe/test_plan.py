"""Plans: which phases follow from a recipe, with which objective, steps and seeds."""

import json

import pytest

from tests.support.plans import COUNTS, DATA, plan
from tspin_mlx.method.objective import SUPERVISED
from tspin_mlx.recipe.phase import outline_from_row
from tspin_mlx.recipe.plan import BatchSizes, replan
from tspin_mlx.recipe.policy_names import policy_name


def phases(made, kind):
    return [phase for phase in made.phases if phase.kind == kind]


def test_a_run_without_warm_up_is_made_of_these_phases():
    made = plan("training.iterations=2")
    assert [(phase.kind, phase.target, phase.policy, phase.iteration) for phase in made.phases] == [
        ("keep", "initial/adapter", "base", None),
        ("evaluate", "initial/eval.json", "initial", None),
        ("generate", "iterations/000/proto_synthetic", "initial", 0),
        ("pair", "iterations/000/triplets.jsonl", "initial", 0),
        ("train", "iterations/000/adapter", "initial", 0),
        ("evaluate", "iterations/000/eval.json", "iterations/000", 0),
        ("generate", "iterations/001/synthetic", "iterations/000", 1),
        ("pair", "iterations/001/triplets.jsonl", "iterations/000", 1),
        ("train", "iterations/001/adapter", "iterations/000", 1),
        ("evaluate", "iterations/001/eval.json", "iterations/001", 1),
        ("choose", "result.json", "base", None),
        ("test", "initial/test.json", "initial", None),
        ("test_best", "test.json", "base", None),
    ]


def test_a_warm_up_is_compared_to_the_base_model():
    with_warm_up, without = plan("warmup.epochs=1"), plan()
    assert [(phase.kind, phase.target, phase.policy) for phase in with_warm_up.phases[:3]] == [
        ("keep", "base/adapter", "base"),
        ("evaluate", "base/eval.json", "base"),
        ("warmup", "initial/adapter", "base"),
    ]
    others = [phase.target for phase in with_warm_up.phases[2:]]
    assert [target for target in others if target != "base/test.json"] == [phase.target for phase in without.phases]


def test_the_warm_up_can_leave_examples_to_self_play():
    options = ("warmup.epochs=1", "warmup.prompts=32", "training.batch_size=16", "training.iterations=1")
    made = plan(*options, "training.epochs=1")
    assert [phase.train.steps for phase in made.train_phases] == [2, 7]


def test_without_iterations_the_warmed_up_model_is_the_result():
    made = plan("warmup.epochs=1", "training.iterations=0")
    assert [(phase.kind, phase.policy) for phase in made.phases] == [
        ("keep", "base"),
        ("evaluate", "base"),
        ("warmup", "base"),
        ("evaluate", "initial"),
        ("choose", "base"),
        ("test", "base"),
        ("test", "initial"),
        ("test_best", "base"),
    ]


def test_without_test_examples_nothing_is_tested():
    made = plan(counts=COUNTS | {"test": 0})
    assert not phases(made, "test") and not phases(made, "test_best")
    assert made.phases[-1].kind == "choose"


def test_every_policy_is_evaluated_and_trained_from_the_one_before():
    made = plan("training.iterations=4")
    folders = [f"iterations/{i:03}" for i in range(4)]
    assert [phase.policy for phase in phases(made, "evaluate")] == ["initial", *folders]
    assert [phase.policy for phase in phases(made, "train")] == ["initial", *folders[:-1]]
    assert [phase.target for phase in phases(made, "train")] == [f"{folder}/adapter" for folder in folders]


def test_the_choice_starts_from_no_iteration_because_a_collapse_may_end_them_early():
    made = plan("training.iterations=3")
    chosen, *_, tested = made.phases[-3:]
    assert (chosen.kind, chosen.policy) == ("choose", "base")
    assert (tested.kind, tested.policy) == ("test_best", "base")


def test_the_historical_term_is_off_in_the_first_iteration_only():
    made = plan("training.iterations=3", "objective.beta=0.3", "objective.alpha=0.5")
    assert [phase.objective.beta for phase in phases(made, "train")] == [0.0, 0.3, 0.3]
    assert [phase.objective.alpha for phase in phases(made, "train")] == [0.5, 0.5, 0.5]


def test_the_options_of_the_objective_reach_every_iteration_but_not_the_warm_up():
    options = ("objective.nll_weight=0.25", "objective.entropy_weight=0.125")
    made = plan(*options, "warmup.epochs=1", "training.iterations=2")
    for phase in phases(made, "train"):
        objective = phase.objective
        assert (objective.nll_weight, objective.entropy_weight) == (0.25, 0.125)
    assert phases(made, "warmup")[0].objective == SUPERVISED


@pytest.mark.parametrize(
    ("examples", "batch_size", "epochs", "ratio", "steps", "warmup_steps"),
    [
        (100, 16, 2, 0.1, 14, 1),  # 7 steps per epoch, the last with 4 examples
        (96, 16, 1, 0.1, 6, 1),
        (3, 16, 1, 0.1, 1, 0),
        (100, 1, 3, 0.1, 300, 30),
        (100, 16, 2, 0, 14, 0),
        (100, 16, 2, 1, 14, 14),
    ],
)
def test_steps_of_an_iteration(examples, batch_size, epochs, ratio, steps, warmup_steps):
    made = plan(
        f"training.batch_size={batch_size}",
        f"training.epochs={epochs}",
        f"training.warmup_ratio={ratio}",
        "training.iterations=2",
        counts=COUNTS | {"train": examples},
    )
    for phase in phases(made, "train"):
        assert (phase.train.steps, phase.train.warmup_steps) == (steps, warmup_steps)
    assert made.steps == 2 * steps


def test_the_warm_up_has_epochs_and_rate_of_its_own_and_the_rest_of_the_training():
    made = plan("warmup.epochs=3", "warmup.learning_rate=0.5", "training.learning_rate=0.25", "training.epochs=1")
    warm_up, train = phases(made, "warmup")[0].train, phases(made, "train")[0].train
    assert (warm_up.epochs, warm_up.steps, warm_up.learning_rate) == (3, 21, 0.5)
    assert (train.epochs, train.steps, train.learning_rate) == (1, 7, 0.25)
    assert (warm_up.optimizer, warm_up.batch_size) == (train.optimizer, train.batch_size)
    assert made.steps == 21 + 5 * 7


@pytest.mark.parametrize(("prompts", "steps"), [("null", 7), (100, 7), (1000, 7), (33, 3), (1, 1)])
def test_self_play_can_use_fewer_prompts_than_the_warm_up(prompts, steps):
    made = plan("warmup.epochs=1", f"generation.prompts={prompts}", "training.epochs=1")
    assert phases(made, "warmup")[0].train.steps == 7
    assert [phase.train.steps for phase in phases(made, "train")] == [steps] * 5


def test_every_phase_has_a_seed_and_a_target_of_its_own():
    made = plan("warmup.epochs=1", "training.iterations=20")
    assert len({phase.seed for phase in made.phases}) == len(made.phases)
    assert len({phase.target for phase in made.phases}) == len(made.phases)


def test_the_runs_seed_changes_every_phases_seed():
    one, other = plan("run.seed=1"), plan("run.seed=2")
    assert not {phase.seed for phase in one.phases} & {phase.seed for phase in other.phases}


def test_more_iterations_leave_the_earlier_phases_as_they_were():
    short, long = plan("training.iterations=2"), plan("training.iterations=4")
    assert long.phases[:10] == short.phases[:10]


@pytest.mark.parametrize(
    ("folder", "name"),
    [("base", "base"), ("initial", "initial"), ("iterations/000", "iteration 0"), ("iterations/012", "iteration 12")],
)
def test_policies_have_names_for_people(folder, name):
    assert policy_name(folder) == name


def test_a_plan_is_plain_values():
    made = plan(model_fingerprint="m", data_digests=DATA)
    row = json.loads(json.dumps(made.to_row()))
    assert row["counts"] == COUNTS
    assert (row["model_fingerprint"], row["data_digests"]) == ("m", DATA)
    assert row["recipe"]["training"]["epochs"] == 2
    assert [phase["target"] for phase in row["phases"]] == [phase.target for phase in made.phases]


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("warmup.epochs=1", "training.iterations=2", "evaluation.metrics=[regex]", "evaluation.regex='\\d\u2028é'"),
        ("lora.keys=[self_attn.q_proj, mlp.up_proj]", "training.max_grad_norm=null", "guard.stop=true"),
        ("training.learning_rate=1e-7", "objective.alpha=0.1", "run.seed=123456789", "run.name=other"),
    ],
)
def test_a_plan_comes_back_from_its_row(overrides):
    made = plan(*overrides, model_fingerprint="m", data_digests=DATA)
    again = replan(outline_from_row(json.loads(json.dumps(made.to_row()))))
    assert again == made
    assert again.fingerprint == made.fingerprint


def test_a_row_of_an_earlier_version_gets_the_defaults_that_were_added_since():
    made = plan(model_fingerprint="m", data_digests=DATA)
    row = made.to_row()
    del row["recipe"]["guard"], row["recipe"]["run"]["checkpoint_seconds"]
    assert replan(outline_from_row(row)) == made


def test_less_at_once_leaves_the_optimisers_batches_and_everything_else():
    made = plan("warmup.epochs=1", "training.micro_batch_size=4", "generation.batch_size=32")
    less = made.with_sizes(BatchSizes(False, 2, 16))
    assert less.recipe.generation.batch_size == 16
    assert {phase.train.micro_batch_size for phase in less.train_phases} == {2}
    assert {phase.train.batch_size for phase in less.train_phases} == {16}
    assert (less.steps, less.counts) == (made.steps, made.counts)
    assert [(phase.target, phase.seed) for phase in less.phases] == [
        (phase.target, phase.seed) for phase in made.phases
    ]
    assert [phase.objective for phase in less.train_phases] == [phase.objective for phase in made.train_phases]
    assert less.with_sizes(BatchSizes(False, 4, 32)) == less  # never more than the plan says
    assert made.train_phases[0].train.micro_batch_size == 4  # as it was


def test_less_at_once_is_another_plan_because_results_may_be_rounded_otherwise():
    made = plan()
    others = [BatchSizes("auto", 2, 32), BatchSizes("auto", 4, 16), BatchSizes(True, 4, 32)]
    assert len({made.fingerprint, *(made.with_sizes(sizes).fingerprint for sizes in others)}) == 4
    assert made.with_sizes(made.sizes).fingerprint == made.fingerprint


def test_spin_scores_its_triplets_at_the_start_of_each_iteration_and_has_no_historical_term():
    made = plan("objective.kind=spin", "training.iterations=2")
    kinds = [phase.kind for phase in made.phases if phase.iteration == 1]
    assert kinds == ["generate", "pair", "refer", "train", "evaluate"]
    (refer,) = [phase for phase in phases(made, "refer") if phase.iteration == 1]
    assert (refer.target, refer.policy) == ("iterations/001/reference.jsonl", "iterations/000")
    assert [(p.objective.beta, p.objective.reference) for p in phases(made, "train")] == [(0.0, True)] * 2


def test_t_spin_with_reference_has_both():
    made = plan("objective.kind=tspin_with_reference", "training.iterations=2")
    assert [(p.objective.beta, p.objective.reference) for p in phases(made, "train")] == [(0.0, True), (0.1, True)]
    assert len(phases(made, "refer")) == 2


def test_supervised_iterations_sample_nothing():
    made = plan("objective.kind=sft", "objective.nll_weight=4", "training.iterations=2", "generation.prompts=40")
    assert [phase.kind for phase in made.phases if phase.iteration is not None] == ["supervise", "evaluate"] * 2
    assert [phase.objective for phase in phases(made, "supervise")] == [SUPERVISED] * 2
    assert [phase.train.steps for phase in phases(made, "supervise")] == [2 * 3] * 2


def test_where_the_contrast_applies_reaches_training_and_reference():
    options = ("objective.contrast_tokens=3", "objective.kind=spin")
    made = plan(*options, "training.iterations=1")
    (train,) = phases(made, "train")
    assert train.objective.contrast_tokens == made.recipe.objective.contrast_tokens == 3
