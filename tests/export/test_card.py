"""What a model card says of how the model was trained."""

import pytest

from tspin_mlx.export.card import Facts, card, metadata
from tspin_mlx.recipe.parse import parse_recipe


def facts(kind):
    recipe = parse_recipe("data: {train: t.jsonl}", "r.yaml", [f"objective.kind={kind}"])
    return Facts(
        repo="jane/m", base="org/base", trained_on=None, license=None, fused=False, policy="iterations/000",
        system=None, thinks=False, recipe=recipe, measured={"iterations/000": {"nll": 1.0}}, split="validation",
        examples={"train": 8, "validation": 4, "test": 0}, versions={"tspin-mlx": "0.1.0"}, machine="M9",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "tags", "said", "unsaid"),
    [
        (
            "tspin",
            ["t-spin"],
            ["2601.08198", "@inproceedings{tspin", "prefer the expert"],
            ["2401.01335", "over the training steps, in nats"],
        ),
        ("spin", ["spin"], ["2401.01335", "@inproceedings{spin", "prefer the expert"], ["2601.08198"]),
        ("tspin_with_reference", ["t-spin"], ["2601.08198", "2401.01335", "{tspin", "{spin"], []),
        ("sft", [], ["supervised fine-tuning"], ["2601.08198", "2401.01335", "## Cite"]),
    ],
)
def test_the_card_names_the_method_that_was_used(kind, tags, said, unsaid):
    made = facts(kind)
    text = card(made, [], curve=True)
    assert metadata(made)["tags"] == ["mlx", "lora", "peft", *tags]
    assert all(words in text for words in said)
    assert not any(words in text for words in unsaid)


def test_a_supervised_model_shows_its_likelihood():
    text = card(facts("sft"), [], curve=True)
    assert 'alt="NLL of the expert\'s answers over the training steps"' in text
    assert "Current advantage" not in text
