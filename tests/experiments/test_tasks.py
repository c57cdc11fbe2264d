"""The tasks of the experiments: drawn by seed, with a test part that no training sees."""

import itertools
import json
import sys

import pytest

from experiments import instructions, puzzles, snips
from experiments.instructions import Form
from experiments.tasks import Sizes, write
from tspin_mlx.base.errors import DataError, UsageError


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
