"""The sweeps of the experiments: what was searched, what was chosen, and the same budget for all."""

import json
from pathlib import Path

import pytest

from experiments import outcomes, sweeps
from tspin_mlx.base.errors import UsageError
from tspin_mlx.recipe.catalog import find_recipe, parse_source
from tspin_mlx.recipe.lineage import lineage
from tspin_mlx.recipe.plan import make_plan
from tspin_mlx.sweeps.file import combinations, parse_sweep

HERE = Path(outcomes.__file__).parent


def plans(file):
    """The plan of each arm of a sweep, with seed 0."""
    sweep = parse_sweep(file.read_text(), file.name)
    source = find_recipe(str(file.parent / sweep.recipe))
    found = {}
    for combination in combinations(sweep, file.stem, ["run.seed=0"]):
        recipe = parse_source(source, combination.own)
        counts = {"train": recipe.data.train_limit, "validation": 64, "test": 128 * (recipe.data.test is not None)}
        found[combination.arm] = make_plan(recipe, counts, "model", {part: str(n) for part, n in counts.items()})
    return found


@pytest.mark.parametrize("task", sweeps.TASKS)
def test_the_searches_are_those_that_were_made(task):
    assert (HERE / f"{task}-search.yaml").read_text() == sweeps.search(task), "python -m experiments sweeps"
    for arm, plan in plans(HERE / f"{task}-search.yaml").items():
        share, passes = arm.removeprefix("sft-").split("-passes-") if "-passes-" in arm else (100, 4)
        warmup = next(phase.train for phase in plan.phases if phase.kind == "warmup")
        assert warmup.steps == int(passes) * sweeps.EXAMPLES[int(share)] // 16
        assert not any(phase.kind in ("test", "test_best") for phase in plan.phases)


@pytest.mark.parametrize("file", sorted(HERE.glob("*-full.yaml")), ids=lambda file: file.stem)
def test_the_sweeps_have_what_was_chosen(file):
    task = file.stem.removesuffix("-full")
    rows = json.loads((HERE / f"results/{task}-search.json").read_text())["runs"]
    assert file.read_text() == sweeps.sweep(task, sweeps.choose(rows)), "python -m experiments choose"


def searched(**more):
    """What a search came to, by arm: scores after the warm-up, and after each of two iterations."""
    scores = {f"sft-{share}-passes-{n}": (0.4, 0, 0) for share, some in sweeps.PASSES.items() for n in some}
    scores |= {f"{name}-{rate}": (0.4, 0.2, 0.2) for name, method in sweeps.METHODS.items() for rate in method.rates}
    policies = ("initial", "iterations/000", "iterations/001")
    return [
        {"arm": arm, "measure": "f1", "validation": {p: {"f1": v} for p, v in zip(policies, found, strict=True)}}
        for arm, found in (scores | more).items()
    ]


def test_the_best_by_validation_is_chosen():
    found = sweeps.choose(searched(**{
        "sft-25-passes-16": (0.5, 0, 0), "sft-100-passes-4": (0.3, 0.9, 0.9),
        "sft-5e-4": (0.4, 0.1, 0.4), "sft-1e-3": (0.9, 0.1, 0.3),
        "spin-2e-4": (0.4, 0.3, 0.3), "spin-5e-4": (0.4, 0.3, 0.3),
    }))  # fmt: skip
    assert found.passes == {100: 2, 50: 4, 25: 16}
    assert found.rates == {
        "sft": "5e-4", "spin": "2e-4", "tspin": "5e-5", "tspin-no-history": "5e-5", "tspin-reference": "2e-4",
        "tspin-first": "2e-4",
    }  # fmt: skip
    # Of a loss the smallest.
    lower = [{**row, "measure": "nll", "validation": {p: {"nll": m["f1"]} for p, m in row["validation"].items()}}
             for row in searched(**{"sft-1e-3": (0.4, 0.1, 0.1)})]  # fmt: skip
    assert sweeps.choose(lower).rates["sft"] == "1e-3"
    with pytest.raises(UsageError, match="no finished run of spin-5e-4"):
        sweeps.choose([row for row in searched() if row["arm"] != "spin-5e-4"])


@pytest.mark.parametrize("task", sweeps.TASKS)
def test_all_arms_of_a_share_have_one_start_and_the_same_budget(task, tmp_path):
    file = HERE / f"{task}-full.yaml"
    if not file.exists():
        file = tmp_path / file.name
        file.write_text(sweeps.sweep(task, sweeps.choose(searched())))
        (tmp_path / f"{task}.yaml").write_text((HERE / f"{task}.yaml").read_text())
    starts, budgets = {}, {}
    for arm, plan in plans(file).items():
        share = int(arm.removesuffix("-2e-5").rpartition("-")[2])
        starts.setdefault(share, set()).add(lineage(plan)["initial/adapter"])
        updates = [phase.train for phase in plan.phases if phase.kind in ("train", "supervise")]
        budgets.setdefault(share, set()).add(tuple((u.steps, u.epochs, u.batch_size) for u in updates))
    assert {share: len(found) for share, found in starts.items()} == {100: 1, 50: 1, 25: 1}
    assert budgets == {100: {((32, 1, 16),) * 3}, 50: {((16, 1, 16),) * 3}, 25: {((8, 1, 16),) * 3}}
