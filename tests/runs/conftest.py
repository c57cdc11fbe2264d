"""A run without a model, on which nobody has worked yet."""

import pytest

from tests.support.bare_runs import MODEL, PROMPTS, TEXT, plan
from tspin_mlx.runs.create import create_run


@pytest.fixture
def made(tmp_path):
    return create_run(tmp_path / "runs" / "quick", plan(), TEXT, MODEL, PROMPTS)
