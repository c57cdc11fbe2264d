"""The parts of the gradient: which tokens they move, and that they add up to the gradient of the loss."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from experiments.attribution import attribute, gradient, kinds, merged, places, pushes, pushes_by_advantage
from tspin_mlx.method.losses import tspin_loss
from tspin_mlx.method.triplets import Prompt, Response, Triplet
from tspin_mlx.models.folder import resolve_model
from tspin_mlx.models.load import load_policy
from tspin_mlx.recipe.schema import LoraSection, ModelSection
from tspin_mlx.runs.run import Run
from tspin_mlx.scoring.logprobs import as_arrays, score

EXPERT = Response((10, 11, 12, 1), "")
TRIPLETS = [
    Triplet(Prompt("a", (5, 6, 7), "", EXPERT, ""), Response((10, 20, 21, 1), ""), Response((30, 31), "", "length")),
    Triplet(Prompt("b", (8, 9), "", EXPERT, ""), Response((40, 41, 1), ""), Response((10, 11, 50, 1), "")),
]


def test_places_are_before_at_and_after_the_first_difference():
    where = places((10, 20, 21, 1), EXPERT.tokens)
    assert list(where.values()) == [[True] + [False] * 3, [False, True] + [False] * 2, [False] * 2 + [True] * 2]
    assert places(EXPERT.tokens, EXPERT.tokens)["before it differs"] == [True] * 4


def test_kinds_of_tokens():
    assert kinds([3, 4, 5, 1], ['{"', "room", "7", "<|im_end|>"], end=1) == ["structure", "content", "content", "end"]


@pytest.fixture
def policy(tiny_model):
    made = load_policy(resolve_model(ModelSection(path=str(tiny_model))), "auto", LoraSection(rank=4), 0)
    made.model.load_weights([(name, value + 0.05) for name, value in made.adapter().items()], strict=False)
    return made


@pytest.mark.parametrize("split", [pushes, pushes_by_advantage])
@pytest.mark.parametrize("beta", [0.0, 0.7])
def test_the_parts_add_up_to_the_gradient_of_the_loss(policy, beta, split):
    three = [*TRIPLETS, TRIPLETS[0]]
    chosen = three if beta else [Triplet(t.prompt, t.synthetic, None) for t in three]
    examples = [(t.prompt, t.responses()) for t in chosen]
    parts = split(chosen, score(policy.scorer, examples), 0.05, beta)
    whole: dict[str, np.ndarray] = {}
    for part in parts.values():
        for name, value in tree_flatten(gradient(policy, part)):
            whole[name] = whole.get(name, 0) + np.array(value)

    def loss():
        logps, _ = policy.scorer(as_arrays(policy.scorer.collate(examples)))
        return tspin_loss(*logps[:2], logps[2] if beta else None, alpha=0.05, beta=beta).mean()

    _, expected = nn.value_and_grad(policy.model, loss)()
    for name, value in tree_flatten(expected):
        np.testing.assert_allclose(whole[name], -np.array(value), rtol=1e-3, atol=1e-5 * float(mx.abs(value).max()))


def test_the_historical_term_has_parts_of_its_own():
    logps = np.array([[-3.0, -3.0], [-9.0, -2.0], [-5.0, -5.0]])
    assert "y0 down (historical)" in pushes(TRIPLETS, logps, 0.05, 0.7)


def test_triplets_by_their_advantage():
    three = [*TRIPLETS, TRIPLETS[0]]
    logps = np.array([[-3.0, -3.0, -3.0], [-9.0, -2.0, -60.0], [-5.0, -5.0, -5.0]])
    thirds = pushes_by_advantage(three, logps, 0.05, 0.7)
    assert [{push.prompt for push in part} for part in thirds.values()] == [{(8, 9)}, {(5, 6, 7)}, {(5, 6, 7)}]


def test_a_run_is_attributed_by_place_and_by_advantage_alike(small_run):
    found = attribute(Run(small_run), 1, triplets=8, held_out=3)
    assert {"y up", "y' up (historical)", "y0 down (historical)"} <= {*found["effects"]}
    assert len(found["by_advantage"]) == 3 and len(found["current_advantage"]) == found["triplets"]
    by_place, by_advantage = (
        {column: sum(row[column] for row in rows) for column in rows[0]}
        for rows in (list(found["effects"].values()), list(found["by_advantage"].values()))
    )
    assert {*by_place} >= {"expert content", "expert structure", "expert end", "own content"}
    assert by_place == pytest.approx(by_advantage, rel=0.02, abs=0.02)
    assert any(abs(value) > 0.05 for value in by_place.values())


def test_what_y_and_y_prime_begin_with_is_one_part():
    effects = {"y up": {"end": 3.0}, "y' down, before it differs": {"end": -2.0}, "y' down, after": {"end": 0.5}}
    assert merged(effects) == {"y up, from the first difference on": {"end": 1.0}, "y' down, after": {"end": 0.5}}
    without = {"y up": {"end": 3.0}, "y' down, after": {"end": 0.5}}
    assert merged(without) == without
