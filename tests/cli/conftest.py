"""A task for the command line to train on."""

import json

import pytest


@pytest.fixture
def task(tmp_path, tiny_model):
    """A folder with a small recipe and its data."""
    rows = [{"prompt": f"say yes {i} times", "response": "yes"} for i in range(20)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "task.yaml").write_text(
        f"""description: A task.
model: {tiny_model}
lora: {{rank: 2}}
data: {{train: train.jsonl, validation_size: 4}}
generation: {{max_tokens: 8}}
warmup: {{epochs: 1}}
training: {{iterations: 1, epochs: 1}}
evaluation: {{samples: 1}}
"""
    )
    return tmp_path
