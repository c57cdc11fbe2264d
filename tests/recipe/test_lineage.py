"""Which phases keep their digest when a recipe changes: what a fork takes over, and what it makes again."""

import pytest

from tspin_mlx.recipe.lineage import lineage
from tspin_mlx.recipe.parse import parse_recipe
from tspin_mlx.recipe.plan import BatchSizes, make_plan

COUNTS = {"train": 100, "validation": 10, "test": 5}
BASIS = (
    "warmup.epochs=1",
    "training.iterations=2",
    "generation.prompts=60",
    "evaluation.metrics=[regex, numeric]",
    "evaluation.regex=a",
)


DATA = {"train": "t", "validation": "v", "test": "x"}


def digests(*overrides, counts=COUNTS, model="m", data=DATA):
    recipe = parse_recipe("data: {train: t.jsonl}", "r.yaml", (*BASIS, *overrides))
    return lineage(make_plan(recipe, counts, model, data))


def kept(*overrides, **more):
    """Targets of the phases that keep their digest, of all that there are before or after."""
    before, after = digests(), digests(*overrides, **more)
    return {target for target, digest in after.items() if before.get(target) == digest}


UNTOUCHED = {"base/adapter"}
WARMED_UP = UNTOUCHED | {"initial/adapter"}
TESTED = {"base/test.json", "initial/test.json"}
MEASURED = {"base/eval.json", "initial/eval.json"} | TESTED
FIRST_TRIPLETS = {"iterations/000/proto_synthetic", "iterations/000/triplets.jsonl"}
FIRST = FIRST_TRIPLETS | {"iterations/000/adapter", "iterations/000/eval.json"}
SECOND_SAMPLES = {"iterations/001/synthetic"}
SECOND_TRIPLETS = SECOND_SAMPLES | {"iterations/001/triplets.jsonl"}
SECOND = SECOND_TRIPLETS | {"iterations/001/adapter", "iterations/001/eval.json"}
CONCLUSIONS = {"result.json", "test.json"}

ALL = WARMED_UP | MEASURED | FIRST | SECOND | CONCLUSIONS
TRAINED = {target for target in ALL if target.startswith("it") or target in WARMED_UP} - {
    "iterations/000/eval.json",
    "iterations/001/eval.json",
}
BEFORE_SELF_PLAY = WARMED_UP | MEASURED
BASE_ONLY = UNTOUCHED | {"base/eval.json", "base/test.json"}

#: What is kept when one key gets another value.
KEPT = {
    # wording, and names of what is digested by its content
    "description": ("Something else.", ALL),
    "measured": ("Something else.", ALL),
    "model.path": ("org/copy", ALL),
    "model.revision": ("main", ALL),
    "data.train": ("moved/t.jsonl", ALL),
    "data.validation": ("moved/v.jsonl", ALL),
    "data.test": ("moved/x.jsonl", ALL),
    "data.validation_size": (32, ALL),
    "data.train_limit": (100, ALL),
    "data.validation_limit": (10, ALL),
    "data.test_limit": (5, ALL),
    "data.columns.prompt": ("question", ALL),
    "data.columns.response": ("reply", ALL),
    "data.columns.system": ("role", ALL),
    "data.columns.answer": ("final", ALL),
    "data.turn": ("first", ALL),
    "data.system": ("Be kind.", ALL),
    "data.template": ("paper", ALL),
    "data.max_tokens": (1024, ALL),
    "data.skip_bad_rows": ("true", ALL),
    "evaluation.samples": (1, ALL),
    "run.name": ("other", ALL),
    "run.folder": ("elsewhere", ALL),
    "run.checkpoint_seconds": (3, ALL),
    # what everything rests on
    "model.dtype": ("float32", set()),
    "lora.kind": ("dora", set()),
    "lora.rank": (8, set()),
    "lora.scale": (1.5, set()),
    "lora.dropout": (0.1, set()),
    "lora.layers": (4, set()),
    "lora.keys": ("[self_attn.q_proj]", set()),
    "run.seed": (1, set()),
    # training, with and without the warm-up
    "warmup.epochs": (2, BASE_ONLY),
    "warmup.learning_rate": (0.1, BASE_ONLY),
    "warmup.prompts": (64, BASE_ONLY),
    "training.batch_size": (8, BASE_ONLY),
    "training.micro_batch_size": (2, BASE_ONLY),
    "training.optimizer": ("lion", BASE_ONLY),
    "training.schedule": ("cosine", BASE_ONLY),
    "training.warmup_ratio": (0.5, BASE_ONLY),
    "training.weight_decay": (0.1, BASE_ONLY),
    "training.max_grad_norm": ("null", BASE_ONLY),
    "training.grad_checkpoint": ("true", BASE_ONLY),
    "training.epochs": (3, BEFORE_SELF_PLAY | FIRST_TRIPLETS),
    "training.learning_rate": (0.1, BEFORE_SELF_PLAY | FIRST_TRIPLETS),
    "training.iterations": (3, BEFORE_SELF_PLAY | FIRST | SECOND),
    # the loss; iteration 0 has no historical term
    "objective.alpha": (0.5, BEFORE_SELF_PLAY | FIRST_TRIPLETS),
    "objective.nll_weight": (1.0, BEFORE_SELF_PLAY | FIRST_TRIPLETS),
    "objective.entropy_weight": (0.1, BEFORE_SELF_PLAY | FIRST_TRIPLETS),
    "objective.kind": ("spin", BEFORE_SELF_PLAY | FIRST_TRIPLETS),
    "objective.contrast_tokens": (3, BEFORE_SELF_PLAY | FIRST_TRIPLETS),
    "objective.beta": (0.3, BEFORE_SELF_PLAY | FIRST | SECOND_TRIPLETS),
    # sampling; greedy answers are as long, and in as large batches
    "generation.prompts": (50, BEFORE_SELF_PLAY),
    "generation.temperature": (0.5, BEFORE_SELF_PLAY),
    "generation.top_p": (0.9, BEFORE_SELF_PLAY),
    "generation.shard_tokens": (64, BEFORE_SELF_PLAY),
    "generation.max_tokens": (128, WARMED_UP),
    "generation.batch_size": (8, WARMED_UP),
    # measuring
    "evaluation.metrics": ("[regex]", TRAINED),
    "evaluation.regex": ("b", TRAINED),
    "evaluation.max_tokens": (64, TRAINED),
    "guard.stop_rate_drop": (0.1, TRAINED | MEASURED),
    "guard.nll_rise": (0.2, TRAINED | MEASURED),
    "guard.truncated_rise": (0.1, TRAINED | MEASURED),
    "guard.stop": ("true", TRAINED | MEASURED),
    "evaluation.best": ("numeric", ALL - CONCLUSIONS),
}


def test_every_phase_has_a_digest_of_its_own():
    found = digests()
    assert found.keys() == ALL
    assert len(set(found.values())) == len(ALL)
    assert all(len(digest) == 64 for digest in found.values())


def test_the_table_covers_every_key():
    assert KEPT.keys() == parse_recipe("data: {train: t.jsonl}", "r.yaml").settings.keys()


@pytest.mark.parametrize(("key", "value", "expected"), [(key, *row) for key, row in KEPT.items()], ids=KEPT)
def test_phases_kept_when_a_key_changes(key, value, expected):
    assert kept(f"{key}={value}") == expected


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["objective.beta=0"], BEFORE_SELF_PLAY | FIRST | SECOND_SAMPLES),  # pairs instead of triplets
        (["training.iterations=1"], BEFORE_SELF_PLAY | FIRST),
        (["training.iterations=0"], BEFORE_SELF_PLAY),
        (["warmup.epochs=0"], set()),
        (["evaluation.max_tokens=256"], ALL),  # as long as they were
        (["evaluation.max_tokens=256", "generation.max_tokens=128"], BEFORE_SELF_PLAY),
        (["run.name=other", "objective.beta=0.3"], BEFORE_SELF_PLAY | FIRST | SECOND_TRIPLETS),
        (["evaluation.best=numeric", "objective.beta=0.3"], BEFORE_SELF_PLAY | FIRST | SECOND_TRIPLETS),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "kept",  # a set has no order
)
def test_phases_kept_after_other_changes(overrides, expected):
    assert kept(*overrides) == expected


def test_without_a_warm_up_there_is_no_base_evaluation_to_keep():
    assert digests("warmup.epochs=0").keys() == ALL - BASE_ONLY


def test_nothing_is_kept_with_another_model():
    assert kept(model="other") == set()


@pytest.mark.parametrize(
    ("part", "expected"),
    [("train", BASE_ONLY), ("validation", TRAINED | TESTED), ("test", ALL - TESTED - {"test.json"})],
)
def test_phases_kept_when_a_part_of_the_data_changes(part, expected):
    assert kept(data=DATA | {part: "other"}) == expected


def test_without_a_test_everything_else_is_kept():
    assert kept(counts=COUNTS | {"test": 0}) == ALL - TESTED - {"test.json"}


def test_smaller_batches_decided_on_later_are_another_lineage():
    plan = make_plan(parse_recipe("data: {train: t.jsonl}", "r.yaml", BASIS), COUNTS, "m", DATA)
    assert lineage(plan) == digests()
    assert lineage(plan.with_sizes(BatchSizes("auto", 2, 32))) == digests("training.micro_batch_size=2")
    assert lineage(plan.with_sizes(BatchSizes("auto", 4, 16))) == digests("generation.batch_size=16")
