"""Log-probabilities of responses: equal to a plain computation with all logits, and only of response tokens."""

import itertools

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from tests.support.tiny_model import perturb, save_tiny_model, tiny_policy
from tspin_mlx.method.triplets import Prompt, Response
from tspin_mlx.scoring.collate import collate
from tspin_mlx.scoring.logprobs import Scorer, as_arrays, score


@pytest.fixture(scope="module")
def policy(tiny_model):
    return perturb(tiny_policy(tiny_model), 1)


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
    scorer = Scorer(policy.model)
    logps, entropies = map(np.array, scorer(as_arrays(scorer.collate(EXAMPLES))))
    np.testing.assert_allclose(score(scorer, EXAMPLES), logps, rtol=1e-5)
    for column, (prompt, responses) in enumerate(EXAMPLES):
        for row, response in enumerate(responses):
            expected = plain_logps(policy.model, prompt.tokens, response.tokens)
            assert logps[row, column] == pytest.approx(expected[0].item(), rel=1e-5)
            assert entropies[row, column] == pytest.approx(expected[1].item(), rel=1e-5)


def test_padding_changes_nothing(policy):
    alone = [score(Scorer(policy.model), [one])[:, 0] for one in EXAMPLES]
    together = score(Scorer(policy.model), EXAMPLES)
    np.testing.assert_allclose(together, np.stack(alone, axis=1), rtol=1e-5)


LOGP_WEIGHTS = mx.array([[1.0, -2.0, 3.0], [0.5, 1.5, -1.0]])


ENTROPY_WEIGHTS = mx.array([[-0.4, 0.1, 0.2], [0.3, -0.2, 0.5]])


def gradient_of(model, total):
    return dict(tree_flatten(nn.value_and_grad(model, total)()[1]))


def plain_gradient(model, *, entropies):
    """Of weighted log-probabilities, and entropies if wanted."""

    def total():
        found = mx.array(0.0)
        for column, (prompt, responses) in enumerate(EXAMPLES):
            for row, response in enumerate(responses):
                logp, entropy = plain_logps(model, prompt.tokens, response.tokens)
                found = found + logp * LOGP_WEIGHTS[row, column]
                if entropies:
                    found = found + entropy * ENTROPY_WEIGHTS[row, column]
        return found

    return gradient_of(model, total)


def scorer_gradient(scorer, *, entropies, **chunk):
    """The same by a scorer."""
    batch = as_arrays(collate(EXAMPLES))

    def total():
        logps, found = scorer(batch, "both" if entropies else "logps", **chunk)
        return (logps * LOGP_WEIGHTS).sum() + (found * ENTROPY_WEIGHTS * entropies).sum()

    return gradient_of(scorer.model, total)


def assert_close(found, expected):
    """Relative to the largest of each tensor."""
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = mx.abs(gradient).max().item()
        assert scale > 0
        np.testing.assert_allclose(np.array(found[name]), np.array(gradient), rtol=0, atol=1e-5 * scale, err_msg=name)


@pytest.mark.parametrize("entropies", [False, True])
def test_gradient_equals_that_of_the_plain_computation(policy, entropies):
    found = scorer_gradient(Scorer(policy.model), entropies=entropies)
    assert_close(found, plain_gradient(policy.model, entropies=entropies))


def test_without_an_entropy_gradient_none_flows_through_the_entropies(policy):
    scorer, batch = Scorer(policy.model), as_arrays(collate(EXAMPLES))
    found = gradient_of(policy.model, lambda: scorer(batch, "logps")[1].sum())
    assert found
    assert all(not gradient.any() for gradient in found.values())
    assert any(g.any() for g in gradient_of(policy.model, lambda: scorer(batch, "both")[1].sum()).values())


@pytest.mark.parametrize("tied", [True, False])
def test_a_head_that_is_trained_gets_its_gradient(tmp_path, tied):
    save_tiny_model(tmp_path, tied=tied)
    model = perturb(tiny_policy(tmp_path, rank=2), 1).model
    (model.model.embed_tokens if tied else model.lm_head).unfreeze()
    found = scorer_gradient(Scorer(model), entropies=True)
    assert ("model.embed_tokens.weight" if tied else "lm_head.weight") in found
    assert_close(found, plain_gradient(model, entropies=True))


@pytest.mark.parametrize("entropies", [False, True])
def test_chunks_of_the_head_change_neither_values_nor_gradients(policy, entropies):
    def result(**chunk):
        scorer = Scorer(policy.model)
        values = scorer(as_arrays(collate(EXAMPLES)), **chunk)
        return [np.array(value) for value in values], scorer_gradient(scorer, entropies=entropies, **chunk)

    values, gradient = result()
    chunked_values, chunked_gradient = result(logits_at_once=4 * 258)
    np.testing.assert_allclose(chunked_values, values, rtol=1e-6)
    assert_close(chunked_gradient, gradient)


def test_a_chunk_is_never_empty(policy):
    scorer, batch = Scorer(policy.model), as_arrays(collate(EXAMPLES))
    np.testing.assert_allclose(scorer(batch, logits_at_once=1), scorer(batch), rtol=1e-5)


@pytest.mark.parametrize("share", [False, True])
def test_the_end_token_is_scored_and_nothing_after_it(policy, share):
    """Whatever is in the padding of rows and of scored tokens, the sums have exactly the responses' tokens."""
    prompt, responses = list(range(20, 32)), ([8, 9, 1], [10, 1])
    micro = collate([example(prompt, *responses)], share=share)
    assert [part.prefix.shape for part in micro.parts] == [(1, 10 if share else 0)]
    real = micro.response_index >= 0
    assert [micro.targets[micro.response_index == number].tolist() for number in (0, 1)] == list(responses)
    assert real.sum() == 5 and not real.all()
    arrays = as_arrays(micro)
    before, _ = Scorer(policy.model)(arrays)
    changed = 0
    for tokens, _ in arrays["parts"][0][1]:
        # Tokens are not 0, so that what is 0 is padding.
        padding = tokens == 0
        changed += padding.sum().item()
        tokens[:] = mx.where(padding, 99, tokens)
    assert changed > 0
    arrays["targets"] = mx.where(mx.array(real), arrays["targets"], 99)
    after, _ = Scorer(policy.model)(arrays)
    assert before.tolist() == after.tolist()


def test_an_untied_head_is_found_too(tmp_path):
    save_tiny_model(tmp_path, tied=False)
    policy = perturb(tiny_policy(tmp_path, rank=2), 1)
    scorer = Scorer(policy.model)
    assert scorer.split
    prompt, responses = EXAMPLES[0]
    expected = plain_logps(policy.model, prompt.tokens, responses[1].tokens)[0].item()
    assert score(scorer, EXAMPLES[:1])[1, 0] == pytest.approx(expected, rel=1e-5)


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
    assert score(scorer, EXAMPLES[:1])[0, 0] == pytest.approx(expected, rel=1e-5)


def test_a_model_with_other_names_is_scored_through_whole_logits(policy):
    class Renamed(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.transformer = inner

        def __call__(self, tokens):
            return self.transformer(tokens)

    scorer = Scorer(Renamed(policy.model))
    assert not scorer.split
    np.testing.assert_allclose(score(scorer, EXAMPLES), score(Scorer(policy.model), EXAMPLES), rtol=1e-5)


def test_as_many_are_scored_at_once_as_fit(policy, monkeypatch):
    """The examples have 11, 10 and 7 tokens; the shortest prompt with its first response comes first."""
    sizes, scorer = [], Scorer(policy.model)
    collate = scorer.collate

    def spying(examples):
        sizes.append([len(x.tokens) + sum(len(r.tokens) for r in rs) for x, rs in examples])
        return collate(examples)

    monkeypatch.setattr(scorer, "collate", spying)
    expected = score(scorer, EXAMPLES)
    for tokens, parts in ((17, [[7], [11], [10]]), (18, [[7, 11], [10]]), (1, [[7], [11], [10]])):
        seen = []
        found = score(scorer, EXAMPLES, lambda *progress, seen=seen: seen.append(progress[0]), tokens)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        assert sizes[1:] == parts
        assert seen == list(itertools.accumulate(map(len, parts)))
        del sizes[1:]


def test_where_calls_cost_more_there_are_fewer_of_the_same_values(policy):
    lengths = [(40, 3), (44, 30), (12, 12), (41, 5)]
    examples = [example(range(5, 5 + prompt), range(1, 1 + answer), [1, 2]) for prompt, answer in lengths]

    def calls(scorer):
        return sum(bool(part.prefix.shape[1]) + len(part.groups) for part in scorer.collate(examples).parts)

    cheap, dear = Scorer(policy.model), Scorer(policy.model, 500)
    assert calls(dear) == 2 < calls(cheap)
    np.testing.assert_allclose(score(dear, examples), score(cheap, examples), rtol=1e-5)
