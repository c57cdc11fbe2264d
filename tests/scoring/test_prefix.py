"""Shared prompts, on tiny random models of many architectures: values and gradients of the plain computation."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import linear_to_lora_layers

from tests.support.tiny_architectures import ARCHITECTURES, tiny_architecture
from tspin_mlx.method.triplets import Prompt, Response
from tspin_mlx.models.load import Policy
from tspin_mlx.scoring.collate import collate
from tspin_mlx.scoring.logprobs import Scorer, as_arrays
from tspin_mlx.scoring.prefix import PrefixCache
from tspin_mlx.training.grad_checkpoint import can_grad_checkpoint, grad_checkpointed

#: Their prompts cannot be shared.
UNSHARED = ("gemma4_text-shared", "afm7")


def example(seed, prompt, *responses):
    rng = np.random.default_rng(seed)
    parts = [Response(tuple(rng.integers(0, 99, length).tolist()), "") for length in responses]
    return Prompt("x", tuple(rng.integers(0, 99, prompt).tolist()), "", parts[0], ""), tuple(parts)


EXAMPLES = [example(0, 20, 9, 17, 3), example(1, 27, 1, 30, 12), example(2, 23, 5, 5, 5)]
WEIGHTS = mx.array([[1.0, -2.0, 3.0], [0.5, 1.5, -1.0], [-0.3, 0.2, 1.0]])


def plainly(model):
    """One sequence at a time, with all logits."""

    def total():
        found = mx.array(0.0)
        for column, (prompt, responses) in enumerate(EXAMPLES):
            for row, response in enumerate(responses):
                ids = mx.array([[*prompt.tokens, *response.tokens]])
                logits = model(ids[:, :-1]).astype(mx.float32)
                logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
                chosen = mx.take_along_axis(logprobs, ids[:, 1:, None], axis=-1)[0, len(prompt.tokens) - 1 :, 0]
                found = found + WEIGHTS[row, column] * chosen.sum()
        return found

    return nn.value_and_grad(model, total)()


def ours(model, scorer, examples=EXAMPLES):
    batch = as_arrays(scorer.collate(examples))
    return nn.value_and_grad(model, lambda: (scorer(batch)[0] * WEIGHTS).sum())()


def assert_same(found, expected):
    """Relative to the largest of each tensor."""
    assert found[0].item() == pytest.approx(expected[0].item(), rel=1e-5)
    found, expected = dict(tree_flatten(found[1])), dict(tree_flatten(expected[1]))
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = mx.abs(gradient).max().item()
        assert scale > 0
        np.testing.assert_allclose(np.array(found[name]), np.array(gradient), rtol=0, atol=1e-5 * scale, err_msg=name)


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in UNSHARED])
def test_values_and_gradients_are_those_of_the_plain_computation(name):
    model = tiny_architecture(name)
    scorer = Scorer(model)
    assert scorer.split and scorer.shares
    assert_same(ours(model, scorer), plainly(model))


@pytest.mark.parametrize("name", ["llama", "gemma2", "qwen3", "phi3", "gemma4_text", "gemma4_text-shared", "hunyuan"])
def test_recomputation_changes_nothing(name):
    model = tiny_architecture(name)
    scorer = Scorer(model)
    with grad_checkpointed(model, True):
        found = ours(model, scorer)
    assert_same(found, ours(model, scorer))
    assert can_grad_checkpoint(Policy(model, None, {}))


def test_layers_are_tried_as_they_are_trained_but_for_dropout(monkeypatch):
    model, seen, score = tiny_architecture("llama"), [], Scorer.__call__
    linear_to_lora_layers(model, 2, {"rank": 2, "scale": 1.0, "dropout": 0.5})

    def watched(self, *args):
        seen.append(model.training)
        return score(self, *args)

    monkeypatch.setattr(Scorer, "__call__", watched)
    assert can_grad_checkpoint(Policy(model.eval(), None, {}))
    assert seen == [True, True] and not any(module.training for _, module in model.named_modules())


def test_a_layer_that_returns_more_than_its_result_is_noticed():
    assert not can_grad_checkpoint(Policy(tiny_architecture("afm7"), None, {}))


def prefixes(batch):
    return [part.prefix.shape for part in batch.parts]


def test_a_quantised_model_gives_the_same_as_stacked():
    model = tiny_architecture("llama", hidden_size=64)
    nn.quantize(
        model, group_size=32, bits=4, class_predicate=lambda path, m: "lora" not in path and hasattr(m, "to_quantized")
    )
    scorer = Scorer(model)
    assert scorer.shares
    assert_same(ours(model, scorer), plainly(model))


def test_sequences_longer_than_a_sliding_window_bring_their_whole_prompt():
    model = tiny_architecture("gemma3_text", sliding_window=32)
    scorer = Scorer(model)
    assert scorer.longest_shared == 32
    assert prefixes(scorer.collate(EXAMPLES)) == [(3, 0)]
    short = [example(3, 12, 4, 4, 4)]
    assert prefixes(scorer.collate(short)) == [(1, 10)]
    assert_same(ours(model, scorer), plainly(model))


def test_padding_counts_when_a_window_is_compared():
    """Prefix 14 and a row of 272 with its padding are longer than the window, though no sequence is."""
    model = tiny_architecture("gemma3_text", sliding_window=284, max_position_embeddings=512)
    scorer = Scorer(model)
    examples = [example(0, 15, 257, 257)]
    assert prefixes(scorer.collate(examples)) == [(1, 0)]
    mx.eval(scorer(as_arrays(scorer.collate(examples))))


def test_no_array_is_ever_a_mask_while_shared_prompts_are_computed(monkeypatch):
    """On Metal an array as a mask loses the backward pass that keeps little memory."""
    seen = []
    attention = mx.fast.scaled_dot_product_attention

    def watched(*args, mask=None, **kwargs):
        seen.append(mask)
        return attention(*args, mask=mask, **kwargs)

    model = tiny_architecture("qwen3")
    scorer = Scorer(model)
    monkeypatch.setattr(mx.fast, "scaled_dot_product_attention", watched)
    mx.eval(ours(model, scorer))
    assert seen and all(isinstance(mask, str) and mask == "causal" for mask in seen)


class Rounding(nn.Module):
    """A body whose results are off by a share of their norm that depends on how many tokens there are."""

    def __init__(self, inner, share):
        super().__init__()
        self.inner, self.layers, self.share = inner, inner.layers, share
        self.embed_tokens = inner.embed_tokens

    def __call__(self, tokens, cache=None, input_embeddings=None):
        found = self.inner(tokens, cache, input_embeddings)
        noise = mx.random.normal(found.shape, key=mx.random.key(tokens.shape[1]))
        return found + self.share * noise * mx.linalg.norm(found) / mx.linalg.norm(noise)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1])
def test_models_that_only_round_differently_in_other_shapes_are_shared(share):
    model = tiny_architecture("llama")
    model.model = Rounding(model.model, share)
    assert Scorer(model).shares


@pytest.mark.parametrize("name", ["llama", "qwen3", "phi3"])
@pytest.mark.parametrize("wrong", ["left out", "misplaced"])
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_a_model_that_treats_its_cache_otherwise_is_not_shared(name, wrong, dtype, monkeypatch):
    model = tiny_architecture(name)
    model.set_dtype(dtype)
    assert Scorer(model).shares
    if wrong == "left out":

        def forgetful(self, keys, values):
            self.recorded = (keys, values)
            return keys, values

        monkeypatch.setattr(PrefixCache, "update_and_fetch", forgetful)
    else:
        monkeypatch.setattr(PrefixCache, "offset", 0)
    assert not Scorer(model).shares


def test_recurrent_models_are_not_shared():
    from mlx_lm.models import mamba

    config = {
        "model_type": "mamba", "vocab_size": 99, "hidden_size": 32, "intermediate_size": 64, "state_size": 8,
        "num_hidden_layers": 2, "conv_kernel": 4, "use_bias": False, "use_conv_bias": True, "time_step_rank": 4,
    }  # fmt: skip
    model = mamba.Model(mamba.ModelArgs.from_dict(config))
    scorer = Scorer(model)
    assert not scorer.shares
    assert prefixes(scorer.collate(EXAMPLES)) == [(3, 0)]


def test_stacked_and_shared_micro_batches_compute_the_same(tmp_path):
    model = tiny_architecture("llama")
    scorer = Scorer(model)
    batches = [collate(EXAMPLES, share=share) for share in (False, True)]
    assert [prefixes(batch) for batch in batches] == [[(3, 0)], [(3, 18)]]
    stacked, shared = map(as_arrays, batches)
    np.testing.assert_allclose(np.array(scorer(stacked)[0]), np.array(scorer(shared)[0]), rtol=1e-5)
    np.testing.assert_allclose(np.array(scorer(stacked)[1]), np.array(scorer(shared)[1]), rtol=1e-5)
