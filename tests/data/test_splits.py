"""Training, validation and test examples: which rows are in which, and how many of them."""

import pytest

from tspin_mlx.base.errors import DataError
from tspin_mlx.data.read import load_examples
from tspin_mlx.recipe.schema import DataSection


def section(**keys):
    return DataSection(**({"train": "t.jsonl"} | keys))


@pytest.fixture
def numbered(tmp_path):
    """A file of rows whose prompts are 0 to 19."""
    (tmp_path / "t.jsonl").write_text("".join(f'{{"prompt": "{i}", "response": "r"}}\n' for i in range(20)))
    return tmp_path


def prompts_of(part):
    return [located.example.messages[-1]["content"] for located in part]


def test_the_validation_split_is_disjoint_complete_and_seeded(numbered):
    def split(seed):
        return load_examples(section(validation_size=5), numbered, seed)

    first, again, other = split(1), split(1), split(2)
    assert first.counts == {"train": 15, "validation": 5, "test": 0}
    everything = prompts_of(first.train + first.validation)
    assert sorted(everything, key=int) == [str(i) for i in range(20)]
    assert first == again
    assert set(prompts_of(first.validation)) != set(prompts_of(other.validation))


def test_a_validation_file_leaves_the_training_rows_alone(numbered):
    data = section(validation="t.jsonl", validation_size=5)
    splits = load_examples(data, numbered, seed=0)
    assert prompts_of(splits.train) == prompts_of(splits.validation) == [str(i) for i in range(20)]


@pytest.mark.parametrize("size", [20, 21])
def test_too_few_rows_to_split_are_refused(numbered, size):
    with pytest.raises(DataError, match=rf"t\.jsonl: 20 rows are too few to set aside {size} for validation") as caught:
        load_examples(section(validation_size=size), numbered, seed=0)
    assert "data.validation_size" in caught.value.hint


def test_limits_keep_a_seeded_choice_in_order(numbered):
    files = {"validation": "t.jsonl", "test": "t.jsonl"}

    def limited(seed):
        data = section(**files, train_limit=6, validation_limit=3, test_limit=2)
        return load_examples(data, numbered, seed)

    splits = limited(0)
    assert splits.counts == {"train": 6, "validation": 3, "test": 2}
    assert splits == limited(0)
    assert prompts_of(splits.train) == sorted(prompts_of(splits.train), key=int)
    assert len({tuple(prompts_of(limited(seed).train)) for seed in range(5)}) == 5


@pytest.mark.parametrize("limit", [None, 20, 1000])
def test_a_limit_beyond_the_rows_keeps_all_of_them(numbered, limit):
    splits = load_examples(section(validation="t.jsonl", train_limit=limit), numbered, seed=0)
    assert prompts_of(splits.train) == [str(i) for i in range(20)]


def test_the_training_limit_takes_no_validation_rows(numbered):
    splits = load_examples(section(validation_size=10, train_limit=4), numbered, seed=0)
    assert splits.counts == {"train": 4, "validation": 10, "test": 0}
    assert not set(prompts_of(splits.train)) & set(prompts_of(splits.validation))
