"""The experiments on the paper's claims: their tasks, their sweeps, and the arithmetic of their tables."""

import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import instructions, outcomes, puzzles, snips, sweeps, tables
from experiments.instructions import Form
from experiments.tasks import Sizes, write
from tests.support.small_runs import make_small_run
from tspin_mlx.base.errors import DataError, UsageError
from tspin_mlx.recipe.catalog import find_recipe, parse_source
from tspin_mlx.recipe.lineage import lineage
from tspin_mlx.recipe.plan import make_plan
from tspin_mlx.runs.event_log import view_of
from tspin_mlx.runs.run import Run
from tspin_mlx.sweeps.file import combinations, parse_sweep

HERE = Path(outcomes.__file__).parent

# --- tasks


@pytest.fixture
def made_snips(tmp_path):
    """A local copy: 40 training rows, of which two are also in the test and one comes twice."""

    def row(i):
        answer = json.dumps({"intent": "PlayMusic", "slots": {"track": f"song {i}"}})
        return {"system": snips.SYSTEM, "prompt": f"play song {i}", "response": answer, "answer": answer}

    for split, numbers in (("train", [*range(40), 7]), ("test", range(38, 48))):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row(i)) + "\n" for i in numbers))
    return tmp_path


def test_snips_is_drawn_by_seed_and_keeps_the_test_apart(made_snips):
    splits = snips.examples(20, 10, 697, 0, made_snips)
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 20, "validation": 10, "test": 10}
    prompts = [row["prompt"] for rows in splits.values() for row in rows]
    assert len(prompts) == len(set(prompts))
    assert splits == snips.examples(20, 10, 697, 0, made_snips)
    assert splits["train"] != snips.examples(20, 10, 697, 1, made_snips)["train"]
    assert splits["test"] == snips.examples(20, 10, 697, 1, made_snips)["test"]
    with pytest.raises(DataError, match="38 training rows are too few"):
        snips.examples(30, 10, 697, 0, made_snips)


def test_snips_from_the_public_files(tmp_path):
    def parts(*stretches):
        return {"data": [{"text": text, "entity": slot} if slot else {"text": text} for text, slot in stretches]}

    train = [
        parts(("give ", None), ("this  novel", "object_select"), (" five stars ", None)),
        parts(("Play on ", None), ("Lastfm", "service"), (" and ", None), ("Café Déezer", "service")),
    ]
    test = [parts(("Rate it ", None), ("2", "rating_value"))]
    folder = tmp_path / "RateBook"
    folder.mkdir()
    # Some of the public files are Latin-1.
    text = json.dumps({"RateBook": train}, ensure_ascii=False)
    (folder / "train_RateBook_full.json").write_bytes(text.encode("latin-1"))
    (folder / "train_RateBook.json").write_text(json.dumps({"RateBook": [parts(("not read", None))]}))
    (folder / "validate_RateBook.json").write_text(json.dumps({"RateBook": test}))
    splits = snips.examples(1, 1, 697, 0, tmp_path)
    found = {row["prompt"]: json.loads(row["response"]) for row in splits["train"] + splits["validation"]}
    assert found == {
        "give this novel five stars": {"intent": "RateBook", "slots": {"object_select": "this novel"}},
        "Play on Lastfm and Café Déezer": {"intent": "RateBook", "slots": {"service": ["Lastfm", "Café Déezer"]}},
    }
    (row,) = splits["test"]
    answer = '{"intent": "RateBook", "slots": {"rating_value": "2"}}'
    assert row == {"system": snips.SYSTEM, "prompt": "Rate it 2", "response": answer, "answer": answer}


def test_instructions_are_distinct_and_their_expert_keeps_to_the_form():
    splits = instructions.examples(300, 50, 100, 0)
    rows = [row for part in splits.values() for row in part]
    assert len({row["prompt"] for row in rows}) == 450
    assert all(instructions.fits(row["answer"], row["response"]) for row in rows)
    assert splits == instructions.examples(300, 50, 100, 0) != instructions.examples(300, 50, 100, 1)
    assert len({row["prompt"] for row in instructions.examples(5670, 0, 0, 0)["train"]}) == 5670
    with pytest.raises(DataError, match="5670"):
        instructions.examples(5670, 1, 0, 0)


@pytest.mark.parametrize(
    ("form", "fitting", "others"),
    [
        (Form("two", "commas", "", "alphabetical order"), ["ash, oak", "Ash, oak", " ash, oak\n"],
         ["oak, ash", "ash,oak", "ash, ash", "ash, oak, pine", "ash", "ash, oak.", "", "ash, "]),
        (Form("three", "the word 'or'", "capital letters", ""), ["OAK or ASH or FIR"],
         ["OAK OR ASH OR FIR", "oak or ash or fir"]),
        (Form("two", "slashes", "small letters", "reverse alphabetical order"), ["polar bear / ape"],
         ["ape / polar bear", "Bear / ape"]),
    ],
)  # fmt: skip
def test_the_form_of_an_answer(form, fitting, others):
    assert [form.fits(text) for text in fitting] == [True] * len(fitting)
    assert [form.fits(text) for text in others] == [False] * len(others)


def test_puzzles_are_distinct_and_from_seeds_of_their_own(monkeypatch):
    class Gym:
        """As reasoning-gym: item i of a dataset is made of its seed + i. Every third item repeats the one before."""

        @staticmethod
        def create_dataset(name, seed, size, **settings):
            assert settings == puzzles.SETTINGS[name]
            asked.append((seed, size))
            numbers = (seed + i - (i % 3 == 2) for i in range(size))
            return ({"question": f"what is\n{number}?", "answer": str(number)} for number in numbers)

    asked = []
    monkeypatch.setitem(sys.modules, "reasoning_gym", Gym)
    splits = puzzles.examples("number_filtering", 20, 5, 7, 0)
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 20, "validation": 5, "test": 7}
    prompts = [row["prompt"] for rows in splits.values() for row in rows]
    assert len(prompts) == len(set(prompts)) and prompts[0].startswith("what is ")
    puzzles.examples("number_filtering", 1, 1, 1, 1)
    seeds = sorted(seed for seed, _ in asked)
    assert len(set(seeds)) == 6 and all(after - before >= asked[0][1] for before, after in itertools.pairwise(seeds))


@pytest.mark.parametrize("name", puzzles.SETTINGS)
def test_the_puzzles_of_reasoning_gym(name):
    pytest.importorskip("reasoning_gym", reason="not installed")
    splits = puzzles.examples(name, 30, 10, 10, 0)
    assert splits == puzzles.examples(name, 30, 10, 10, 0)
    assert len({row["prompt"] for rows in splits.values() for row in rows}) == 50


def test_the_files_are_what_recipes_read(tmp_path):
    counts = write("instructions", tmp_path, Sizes(5, 3, 4), 0, None)
    assert counts == {"train": 5, "validation": 3, "test": 4}
    rows = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    assert len(rows) == 4 and {*rows[0]} == {"system", "prompt", "response", "answer"}
    with pytest.raises(UsageError, match="a row each"):
        write("instructions", tmp_path, Sizes(5, 0, 4), 0, None)
    with pytest.raises(DataError, match="not part of the package"):
        write("snips", tmp_path, Sizes(), 0, None)


# --- sweeps


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


# --- what runs came to


def test_supervised_training_counts_the_tokens_of_its_prompts(tiny_model, tmp_path):
    rows = [{"prompt": "a" * length, "response": f"[{length}]"} for length in range(1, 9)]
    (tmp_path / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = make_small_run(
        tiny_model, tmp_path, f"data.train={tmp_path}/long.jsonl", "objective.kind=sft", "generation.prompts=4",
    )  # fmt: skip
    (row,) = outcomes.collect([run])["runs"]
    steps = [step for step in view_of(run / "events.jsonl").steps if step["iteration"] is not None]
    assert row["trained_tokens"] == pytest.approx(sum(step["tokens_per_s"] * step["elapsed_s"] for step in steps))


def test_collect(small_run, tmp_path):
    found = outcomes.collect([small_run])
    assert found == outcomes.collect([small_run.parent]) and found["unfinished"] == []
    (row,) = found["runs"]
    run, view = Run(small_run), view_of(small_run / "events.jsonl")
    assert (row["name"], row["sweep"], row["arm"], row["seed"], row["settings"]) == ("small", "runs", "small", 0, {})
    assert row["best"] == run.result()["best"] and row["measure"] == "nll"
    assert list(row["validation"]) == ["base", "initial", "iterations/000", "iterations/001"]
    assert row["validation"]["iterations/001"] == pytest.approx(view.evaluations["iterations/001"], abs=1e-6)
    assert {"nll", "stop_rate", "exact_match", "advantage_current", "advantage_historical"} <= {
        *row["validation"]["initial"]
    }
    assert row["test"][row["best"]] == pytest.approx(run.test()[row["best"]]["metrics"], abs=1e-6)
    # One epoch: what the steps say of their speed and time gives the tokens, too.
    seen = sum(step["tokens_per_s"] * step["elapsed_s"] for step in view.steps if step["iteration"] is not None)
    assert row["trained_tokens"] == pytest.approx(seen)
    lengths = [news["generate/length"] for news in view.news if news["kind"] == "generated"]
    assert row["sampled_tokens"] == pytest.approx(8 * sum(lengths))
    assert row["peak_memory_bytes"] > 0 and row["taken_over"] == 0
    parts = ("proto_synthetic", "synthetic", "triplets.jsonl", "adapter")
    took = {
        part: [s for phase, s in view.durations.items() if phase.endswith(f"/{part}") and "/0" in phase]
        for part in parts
    }
    means = [
        sum(some) / len(some)
        for some in (took["proto_synthetic"] + took["synthetic"], took["triplets.jsonl"], took["adapter"])
    ]
    assert row["iteration_seconds"] == pytest.approx(sum(means), abs=0.06)
    assert row["seconds"] == pytest.approx(sum(view.durations.values()), abs=0.06)
    assert row["versions"]["mlx"] and len(json.dumps(found)) < 10_000
    with pytest.raises(UsageError, match="two runs are called small"):
        outcomes.collect([small_run, small_run])
    assert "### runs" not in tables.markdown(found["runs"]) and "exact_match" in tables.markdown(
        found["runs"], "exact_match"
    )


def test_collect_leaves_out_what_is_not_finished(make_run):
    make_run("waves", until="iterations/001/triplets.jsonl")
    with pytest.raises(UsageError, match="no finished run"):
        outcomes.collect([Path("runs")])


def test_settings_that_differ():
    rows = [
        {"settings": {"run.seed": seed, "objective.beta": beta, "lora.rank": 4, **more}}
        for seed, beta, more in ((0, 0.1, {}), (1, 0.0, {"data.train_limit": 8}))
    ]
    outcomes._keep_what_differs(rows)
    assert [row["settings"] for row in rows] == [
        {"objective.beta": 0.1, "data.train_limit": None},
        {"objective.beta": 0.0, "data.train_limit": 8},
    ]


def test_answers_to_instructions_are_checked(make_run):
    run = make_run("waves")
    form = json.dumps({"count": "two", "separator": "commas", "case": "", "order": ""})
    prompts = [replace(p, answer=form, system=instructions.SYSTEM) for p in run.prompts().validation]
    answers = [{"text": text} for text in ("ash, oak", "ash", "fir, elm")]
    assert outcomes._checked(answers, prompts) == {"form": pytest.approx(2 / 3)}
    assert outcomes._checked(answers, run.prompts().validation) == {}


@pytest.mark.parametrize(
    ("name", "sweep", "arm"),
    [
        ("snips-full-tspin-25-seed-0", "snips-full", "tspin-25"),
        ("snips-rates-sft-learning_rate-2e-4-seed-100", "snips-rates", "sft-learning_rate-2e-4"),
        ("alone", "runs", "alone"),
    ],
)
def test_the_arm_of_a_run(name, sweep, arm):
    assert outcomes.arm_of(name, sweep) == arm


# --- tables


def row(arm, seed, initial, best, *, last=None, **more):
    """A run of one iteration, chosen or not."""
    last = best if last is None else last
    part = {"initial": {"f1": initial}, "iterations/000": {"f1": last, "nll": 1.0, "stop_rate": 0.5}}
    return {
        "name": f"{arm}-{seed}", "arm": arm, "seed": seed, "settings": {}, "sweep": "s", "measure": "f1",
        "best": "iterations/000", "validation": part,
        "test": {"initial": {"f1": initial}, "iterations/000": {"f1": best}}, "trained_tokens": 1000,
        "sampled_tokens": 100, "iteration_seconds": 60.0, "peak_memory_bytes": 2**30,
        "machine": {"system": "Linux", "device": "a CPU"}, "versions": {"mlx": "1.2"}, **more,
    }  # fmt: skip


def test_differences_are_taken_seed_by_seed():
    ours = [row("tspin-100", seed, 0.1, best) for seed, best in ((0, 0.5), (1, 0.9), (2, 0.3))]
    theirs = [row("sft-100", seed, 0.1, best) for seed, best in ((1, 0.6), (0, 0.4))]
    assert "| tspin-100 | sft-100 | 2 | +0.200 ± 0.100 |" in tables.markdown(ours + theirs)  # 0.1 and 0.3
    assert "Differences" not in tables.markdown(ours)


def test_rivals():
    assert tables.rivals("sft-100") == []
    assert tables.rivals("spin-100") == ["sft-100"]
    assert tables.rivals("tspin-100") == ["sft-100", "spin-100"]
    assert tables.rivals("sft-50") == ["sft-100"]
    assert tables.rivals("tspin-first") == tables.rivals("sft-100-passes-4") == []
    assert tables.rivals("tspin-no-history-25") == ["sft-25", "spin-25", "sft-100"]


def test_tables():
    rows = [row("sft-100", 0, 0.1, 0.4), row("sft-100", 1, 0.2, 0.6, iteration_seconds=None)]
    rows += [row("tspin-100", 0, 0.1, 0.3, last=0.1), row("tspin-100", 1, 0.2, 0.9, peak_memory_bytes=None)]
    text = tables.markdown(rows)
    # best − initial: .3 and .4; tspin .2 and .7; tspin − sft: −.1 and +.3. Half the distance of two is their error.
    assert "| sft-100 | 2 | 0.150 ± 0.050 | 0.500 ± 0.100 | +0.350 ± 0.050 |" in text
    assert "| tspin-100 | 2 | 0.150 ± 0.050 | 0.600 ± 0.300 | +0.450 ± 0.250 |" in text
    assert "| tspin-100 | sft-100 | 2 | +0.100 ± 0.200 |" in text
    assert "| tspin-100 | 0.150 ± 0.050 | 0.500 ± 0.400 | +0.350 ± 0.350 |" in text
    # One iteration, 0.1 → 0.1 and 0.2 → 0.9: worst − initial and step are 0 and .7.
    assert "| tspin-100 | +0.350 ± 0.350 | 0.350 ± 0.350 | 0.566 |" in text
    assert "| sft-100 | 0.500 ± 0.000 | 1.000 ± 0.000 | – | – | 1,000 | 100 | 1.00 GiB | 60.0 |" in text
    assert "Measured on a CPU, Linux, with mlx 1.2." in text
    assert "Differences" not in tables.markdown(rows[:1])
    with pytest.raises(UsageError, match="no run measured 'f2'"):
        tables.markdown(rows, "f2")


def test_the_picture_has_a_line_for_each_arm():
    rows = [row("sft-100", 0, 0.1, 0.4), row("tspin-100", 0, 0.1, 0.3), row("tspin-25", 0, 0.1, 0.3)]
    picture = tables.picture(rows, None, None)
    assert picture.count("<polyline") == 2 and "tspin-25" not in picture
    rows[2]["validation"]["iterations/001"] = {"f1": 0.2}
    assert "iteration 1" in tables.picture(rows, "f1", ["tspin-25"]) and "iteration 1" not in picture
    assert "iteration 1" not in tables.picture(rows, "f1", ["sft-100"])
    with pytest.raises(UsageError, match="no arm is called 'x'"):
        tables.picture(rows, None, ["x"])
    with pytest.raises(UsageError, match="1 to 8 arms, not 0"):
        tables.picture(rows[2:], None, None)
