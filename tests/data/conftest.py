"""Reading the text of a data file."""

import pytest

from tests.support.examples import GOOD, section
from tests.support.small_runs import jsonl
from tspin_mlx.data.read import load_examples


@pytest.fixture
def load(tmp_path):
    """Write a file and read it as the training data; the validation data is another, good file."""
    (tmp_path / "good.jsonl").write_text(jsonl([GOOD]))

    def read(name, content, **keys):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_examples(section(train=name, validation="good.jsonl", **keys), tmp_path, seed=0)

    return read
