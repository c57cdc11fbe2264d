"""Log-probabilities of responses: equal to a plain computation with all logits, and only of response tokens."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from tspin_mlx import scoring
from tspin_mlx.batching import collate
from tspin_mlx.models import load_policy, resolve_model
from tspin_mlx.recipe import LoraSection, ModelSection
from tspin_mlx.scoring import Scorer, as_arrays, score, token_logps
from tspin_mlx.triplets import Prompt, Response

from .conftest import save_tiny_model


@pytest.fixture(scope="module")
def policy(tiny_model):
    return perturbed(load_policy(resolve_model(ModelSection(path=str(tiny_model))), "auto", LoraSection(rank=4), 0))


def perturbed(policy):
    """An adapter that does something: a fresh one has no effect."""
    mx.random.seed(1)
    changed = [(name, value + 0.1 * mx.random.normal(value.shape)) for name, value in policy.adapter().items()]
    policy.model.load_weights(changed, strict=False)
    return policy


def example(prompt, *responses):
    parts = [Response(tokens=tuple(response), text="") for response in responses]
    return Prompt(id="x", tokens=tuple(prompt), text="", annotated=parts[0], answer=""), tuple(parts)


EXAMPLES = [
    example([5, 6, 7], [8, 9, 1], [10, 11, 12, 13, 14]),
    example([20, 21, 22, 23, 24, 25, 26], [30, 1], [31]),
    example([40], [41, 42, 43, 44], [45, 1]),
]


def plain_logps(model, prompt, response):
    """All logits of the whole sequence, one sequence at a time."""
    ids = mx.array([[*prompt, *response]])
    logits = model(ids[:, :-1]).astype(mx.float32)
    logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    scored = logprobs[0, len(prompt) - 1 :]
    chosen = mx.take_along_axis(scored, mx.array(response)[:, None], axis=-1)
    return chosen.sum(), -(mx.exp(scored) * scored).sum()


def test_equal_to_a_plain_computation_with_all_logits(policy):
    logps, entropies = score(Scorer(policy.model), EXAMPLES, batch_size=3)
    for column, (prompt, responses) in enumerate(EXAMPLES):
        for row, response in enumerate(responses):
            expected = plain_logps(policy.model, prompt.tokens, response.tokens)
            assert logps[row, column] == pytest.approx(expected[0].item(), rel=1e-5)
            assert entropies[row, column] == pytest.approx(expected[1].item(), rel=1e-5)


def test_padding_changes_nothing(policy):
    alone = [score(Scorer(policy.model), [one], 1)[0][:, 0] for one in EXAMPLES]
    together, _ = score(Scorer(policy.model), EXAMPLES, 3)
    np.testing.assert_allclose(together, np.stack(alone, axis=1), rtol=1e-5)


def test_gradient_equals_that_of_the_plain_computation(policy):
    scorer, batch = Scorer(policy.model), as_arrays(collate(EXAMPLES))
    weights = mx.array([[1.0, -2.0, 3.0], [0.5, 1.5, -1.0]])

    def ours():
        return (scorer(batch)[0] * weights).sum()

    def plain():
        return sum(
            plain_logps(policy.model, prompt.tokens, response.tokens)[0] * weights[row, column]
            for column, (prompt, responses) in enumerate(EXAMPLES)
            for row, response in enumerate(responses)
        )

    found = dict(tree_flatten(nn.value_and_grad(policy.model, ours)()[1]))
    expected = dict(tree_flatten(nn.value_and_grad(policy.model, plain)()[1]))
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = mx.abs(gradient).max().item()
        np.testing.assert_allclose(np.array(found[name]), np.array(gradient), rtol=1e-4, atol=1e-5 * scale)


def test_chunks_of_the_head_change_neither_values_nor_gradients(policy, monkeypatch):
    batch = as_arrays(collate(EXAMPLES))

    def result():
        scorer = Scorer(policy.model)
        value, gradient = nn.value_and_grad(policy.model, lambda: scorer(batch)[0].sum())()
        return value.item(), dict(tree_flatten(gradient))

    whole = result()
    monkeypatch.setattr(scoring, "LOGITS_AT_ONCE", 4 * 258)
    pieces = result()
    assert pieces[0] == pytest.approx(whole[0], rel=1e-6)
    for name, gradient in whole[1].items():
        assert mx.abs(gradient).max() > 0
        np.testing.assert_allclose(np.array(pieces[1][name]), np.array(gradient), rtol=1e-4, atol=1e-5)


def test_the_end_token_is_scored_and_nothing_after_it(policy):
    """Whatever follows in the row's padding, the sum has exactly the response's tokens."""
    prompt, response = [5, 6, 7], [8, 9, 1]
    micro = collate([example(prompt, response)])
    assert micro.targets[: len(response)].tolist() == response
    assert (micro.rows >= 0).sum() == len(response)
    arrays = as_arrays(micro)
    before, _ = Scorer(policy.model)(arrays)
    arrays["tokens"][:, len(prompt) + len(response) - 1 :] = 99
    arrays["targets"][len(response) :] = 99
    after, _ = Scorer(policy.model)(arrays)
    assert before.item() == after.item()


def test_an_untied_head_is_found_too(tmp_path):
    save_tiny_model(tmp_path, tied=False)
    policy = perturbed(load_policy(resolve_model(ModelSection(path=str(tmp_path))), "auto", LoraSection(rank=2), 0))
    scorer = Scorer(policy.model)
    assert scorer.split
    prompt, responses = EXAMPLES[0]
    expected = plain_logps(policy.model, prompt.tokens, responses[1].tokens)[0].item()
    assert score(scorer, EXAMPLES[:1], 1)[0][1, 0] == pytest.approx(expected, rel=1e-5)


def test_a_model_that_cannot_be_split_is_scored_through_whole_logits(policy):
    class Doubling(nn.Module):
        """Does something to its logits that nobody announces."""

        def __init__(self, inner):
            super().__init__()
            self.inner = inner
            self.model, self.args = inner.model, inner.args

        def __call__(self, tokens):
            return 2 * self.inner(tokens)

    model = Doubling(policy.model)
    scorer = Scorer(model)
    assert not scorer.split
    prompt, responses = EXAMPLES[0]
    expected = plain_logps(model, prompt.tokens, responses[0].tokens)[0].item()
    assert score(scorer, EXAMPLES[:1], 1)[0][0, 0] == pytest.approx(expected, rel=1e-5)


def test_a_model_with_other_names_is_scored_through_whole_logits(policy):
    class Renamed(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.transformer = inner

        def __call__(self, tokens):
            return self.transformer(tokens)

    scorer = Scorer(Renamed(policy.model))
    assert not scorer.split
    np.testing.assert_allclose(score(scorer, EXAMPLES, 3)[0], score(Scorer(policy.model), EXAMPLES, 3)[0], rtol=1e-5)


def test_token_logps_of_huge_logits_are_finite():
    logps, entropies = token_logps(mx.array([[1e4, -1e4, 0.0], [0.0, 0.0, 0.0]]), mx.array([1, 2]))
    assert logps[0].item() == -2e4
    assert entropies[0].item() == 0
    assert logps[1].item() == pytest.approx(-np.log(3))
    assert entropies[1].item() == pytest.approx(np.log(3))


def test_half_precision_logits_are_scored_in_float32():
    logps, _ = token_logps(mx.array([[4.0, 2.0, 1.0]], mx.bfloat16), mx.array([0]))
    assert logps.dtype == mx.float32
    assert logps.item() == pytest.approx(-np.log(1 + np.exp(-2) + np.exp(-3)), rel=1e-6)
