"""The head of a model: log-probabilities and gradients from features, in chunks and without keeping the logits."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from tspin_mlx.scoring.head import chunked_logps, frozen_head_logps, token_logps


@pytest.mark.parametrize("function", [chunked_logps, frozen_head_logps])
def test_a_chunk_is_what_goes_through_the_head_at_once(function):
    head, features, targets = head_features_targets(dense)
    sizes = []

    def watched(features):
        sizes.append(features.shape[0])
        return head(features)

    chunked = function(watched, features, targets, 3)
    assert sizes == [3, 3, 1]
    np.testing.assert_allclose(chunked, function(head, features, targets, 7), rtol=1e-6)


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


def dense(linear):
    return linear


def quantised(linear):
    return nn.QuantizedLinear.from_linear(linear, group_size=32, bits=4)


def capped(linear):
    # Low enough for the logits below to feel it.
    return lambda features: mx.tanh(linear(features) / 2) * 2


def head_features_targets(kind):
    """A head, and 7 positions whose logits have a spread of about 3."""
    mx.random.seed(2)
    linear = nn.Linear(64, 96, bias=False)
    linear.weight = 0.4 * mx.random.normal(linear.weight.shape)
    return kind(linear), mx.random.normal((7, 64)), mx.random.randint(0, 96, (7,))


def both_gradients(kind, cotangents, entropy_gradient):
    """Of the features: by the frozen head, and by plain autodiff."""
    head, features, targets = head_features_targets(kind)

    def frozen(features):
        logps, entropies = frozen_head_logps(head, features, targets, 7, "both" if entropy_gradient else "logps")
        return (logps * cotangents[0]).sum() + (entropies * cotangents[1]).sum()

    def plain(features):
        logps, entropies = token_logps(head(features), targets)
        return (logps * cotangents[0]).sum() + (entropies * cotangents[1] * entropy_gradient).sum()

    return np.array(mx.grad(frozen)(features)), np.array(mx.grad(plain)(features))


def assert_rows_close(found, expected):
    """Relative to the largest of each row."""
    largest = np.abs(expected).max(axis=1, keepdims=True)
    assert largest.all()
    np.testing.assert_allclose(found / largest, expected / largest, rtol=0, atol=1e-5)


HEADS = pytest.mark.parametrize("kind", [dense, quantised, capped])


ENTROPY_GRADIENT = pytest.mark.parametrize("entropy_gradient", [False, True])


@HEADS
@ENTROPY_GRADIENT
def test_a_frozen_head_gives_the_values_of_a_plain_one(kind, entropy_gradient):
    head, features, targets = head_features_targets(kind)
    found = frozen_head_logps(head, features, targets, 7, "both" if entropy_gradient else "logps")
    for ours, plain in zip(found, token_logps(head(features), targets), strict=True):
        assert ours.dtype == mx.float32
        np.testing.assert_allclose(np.array(ours), np.array(plain), rtol=1e-6)


@HEADS
@ENTROPY_GRADIENT
def test_a_frozen_head_gives_the_gradient_of_plain_autodiff(kind, entropy_gradient):
    mx.random.seed(3)
    found, expected = both_gradients(kind, mx.random.normal((2, 7)), entropy_gradient)
    assert_rows_close(found, expected)


@HEADS
@ENTROPY_GRADIENT
def test_cotangents_near_the_smallest_numbers_give_no_gradient_and_small_ones_theirs(kind, entropy_gradient):
    scale = mx.array([1e-35, -1e-35, 1e-25, -1e-25, 1e-35, 1.0, -1e-35])
    vanishing = np.abs(np.array(scale)) < 1e-30
    found, expected = both_gradients(kind, mx.stack([scale, scale]), entropy_gradient)
    assert expected[vanishing].any(axis=1).all()
    assert not found[vanishing].any()
    assert_rows_close(found[~vanishing], expected[~vanishing])


def test_a_cotangent_that_is_no_number_is_not_hidden():
    cotangents = mx.array([[1.0, float("nan"), float("inf"), 0, 0, 0, 0], [0.0] * 7])
    found, _ = both_gradients(dense, cotangents, True)
    assert np.isfinite(found[0]).all()
    assert not np.isfinite(found[1:3]).any()


@HEADS
def test_half_precision_features_get_a_half_precision_gradient(kind):
    head, features, targets = head_features_targets(kind)
    features = features.astype(mx.bfloat16)
    gradient = mx.grad(lambda x: frozen_head_logps(head, x, targets, 7)[0].sum())(features)
    exact = mx.grad(lambda x: token_logps(head(x), targets)[0].sum())(features.astype(mx.float32))
    assert gradient.dtype == mx.bfloat16
    scale = mx.abs(exact).max().item()
    np.testing.assert_allclose(np.array(gradient.astype(mx.float32)), np.array(exact), rtol=0, atol=0.02 * scale)
