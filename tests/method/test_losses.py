"""The loss and the advantages against numbers worked out by hand, and against finite differences."""

import math

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tspin_mlx.method.losses import batch_loss, current_advantage, historical_advantage, nll_loss, tspin_loss
from tspin_mlx.method.objective import SUPERVISED, Objective

# alpha, beta, log-probabilities of y, y', y0 -> loss, and its gradient by each
VECTORS = [
    (1, 0.1, (-10, -10, -10), 0.762461899, (-0.5, 0.45, 0.05)),
    (1, 0.1, (-50, -52, -55), 0.131786746, (-0.119202922, 0.114460335, 0.004742587)),
    (1, 0.1, (-60, -50, -55), 10.000716934, (-0.999954602, 0.999285317, 0.000669285)),
    (1, 0, (-60, -50, -50), 10.000045399, (-0.999954602, 0.999954602, 0)),
    (0.1, 1.0, (-120, -100, -130), 2.175515363, (-0.088079708, 0.083337120, 0.004742587)),
]

logp = st.floats(-500, 0, width=32)


def arrays(logps):
    return [mx.array([float(value)]) for value in logps]


@pytest.mark.parametrize(("alpha", "beta", "logps", "loss", "gradient"), VECTORS)
def test_loss_and_gradient_are_the_worked_ones(alpha, beta, logps, loss, gradient):
    assert tspin_loss(*arrays(logps), alpha=alpha, beta=beta).item() == pytest.approx(loss, rel=1e-6)
    found = mx.grad(lambda *v: tspin_loss(*v, alpha=alpha, beta=beta).sum(), argnums=(0, 1, 2))(*arrays(logps))
    assert [g.item() for g in found] == pytest.approx(gradient, abs=1e-6)


def reference_loss(y, synthetic, proto, alpha, beta):
    """In double precision, with nothing but the formula."""

    def logistic(z):
        return max(0.0, -z) + math.log1p(math.exp(-abs(z)))

    return logistic(alpha * (y - synthetic)) + beta * logistic(alpha * (synthetic - proto))


@given(logp, logp, logp, st.sampled_from([0.1, 0.3, 0.5, 1.0]), st.sampled_from([0.1, 0.3, 0.5, 1.0]))
def test_gradient_is_that_of_finite_differences(y, synthetic, proto, alpha, beta):
    point = [y, synthetic, proto]
    found = mx.grad(lambda *v: tspin_loss(*v, alpha=alpha, beta=beta).sum(), argnums=(0, 1, 2))(*arrays(point))
    for i, gradient in enumerate(found):
        above, below = list(point), list(point)
        above[i] += 1e-4
        below[i] -= 1e-4
        slope = (reference_loss(*above, alpha, beta) - reference_loss(*below, alpha, beta)) / 2e-4
        assert gradient.item() == pytest.approx(slope, abs=2e-5)


@given(logp, logp, logp)
def test_gradients_add_up_to_zero_and_the_loss_is_finite(y, synthetic, proto):
    loss, gradients = mx.value_and_grad(lambda *v: tspin_loss(*v, alpha=1.0, beta=0.1).sum(), argnums=(0, 1, 2))(
        *arrays((y, synthetic, proto))
    )
    assert math.isfinite(loss.item()) and loss.item() >= 0
    assert sum(g.item() for g in gradients) == pytest.approx(0, abs=1e-6)


def test_one_loss_per_triplet():
    batch = [mx.array([-1.0, -2.0, -3.0])] * 3
    assert tspin_loss(*batch, alpha=1.0, beta=0.1).shape == (3,)


def test_without_the_historical_term_no_proto_synthetic_is_needed():
    y, synthetic = mx.array([-60.0]), mx.array([-50.0])
    assert tspin_loss(y, synthetic, None, alpha=1, beta=0).item() == pytest.approx(10.000045399)
    with pytest.raises(ValueError, match="proto_synthetic"):
        tspin_loss(y, synthetic, None, alpha=1, beta=0.1)


def test_advantages():
    y, synthetic, proto = mx.array([-50.0]), mx.array([-52.0]), mx.array([-55.0])
    assert current_advantage(y, synthetic).item() == 2
    assert historical_advantage(synthetic, proto).item() == 3
    assert nll_loss(y).item() == 50


LOGPS = np.array([[-10.0, -50.0, -60.0], [-10.0, -52.0, -50.0], [-10.0, -55.0, -55.0]], np.float32)
ENTROPIES = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]], np.float32)
COUNTS = mx.array([3.0, 25.0, 59.0])


REFERENCE = np.array([[-11.0, -48.0, -70.0], [-10.0, -50.0, -49.0], [-10.0, -55.0, -56.0]], np.float32)


def loss_of(objective, columns=slice(None), rows=3):
    parts = [mx.array(a[:rows, columns]) for a in (LOGPS, ENTROPIES)]
    return batch_loss(*parts, COUNTS, objective, reference=mx.array(REFERENCE[:rows, columns])).item()


def test_batch_loss_is_the_mean_over_triplets():
    expected = (0.762461899 + 0.131786746 + 10.000716934) / 3
    assert loss_of(Objective(alpha=1, beta=0.1)) == pytest.approx(expected)


def test_options_add_their_terms():
    plain = loss_of(Objective(alpha=1, beta=0.1))
    assert loss_of(Objective(alpha=1, beta=0.1, nll_weight=2)) - plain == pytest.approx(2 * 120 / 25)
    assert loss_of(Objective(alpha=1, beta=0.1, entropy_weight=0.5)) - plain == pytest.approx(-0.5 * 45 / 59)


def test_supervised_is_the_mean_negative_log_likelihood_per_token():
    assert loss_of(SUPERVISED, rows=1) == pytest.approx(120 / 25)


def test_shares_of_micro_batches_add_up():
    objective = Objective(alpha=0.5, beta=0.3, nll_weight=1, entropy_weight=0.1)
    shares = [loss_of(objective, columns) for columns in (slice(0, 1), slice(1, 3))]
    assert sum(shares) == pytest.approx(loss_of(objective))


def test_with_a_reference_and_no_historical_term_it_is_the_loss_of_spin():
    margins = [1 - 0, -2 + 2, 10 + 1]  # of the gains of y and y'
    expected = np.mean([math.log1p(math.exp(-0.3 * margin)) for margin in margins])
    assert loss_of(Objective(alpha=0.3, beta=0, reference=True)) == pytest.approx(expected, rel=1e-6)


def test_with_a_reference_the_historical_term_is_of_gains_too():
    gains = LOGPS - REFERENCE
    expected = np.mean([reference_loss(*three, 0.3, 0.7) for three in zip(*gains, strict=True)])
    assert loss_of(Objective(alpha=0.3, beta=0.7, reference=True)) == pytest.approx(expected, rel=1e-6)
