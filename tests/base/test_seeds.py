"""Seeds: fixed for ever by their names, and different for different names."""

from hypothesis import given
from hypothesis import strategies as st

from tspin_mlx.base.seeds import derive


def test_seeds_are_the_same_in_every_version():
    # A run continued by a later version must sample what this one would have.
    assert derive(0, "warmup") == 7692762333296982238
    assert derive(3, "step", 1) == 2654693151798122639


def test_seeds_of_different_uses_differ():
    names = [("split",), ("warmup",), *((kind, i) for kind in ("generate", "train", "pair") for i in range(20))]
    found = {derive(seed, *name) for seed in range(20) for name in names}
    assert len(found) == 20 * len(names)


def test_names_do_not_run_together():
    assert derive(0, "a/b") != derive(0, "a", "b")
    assert derive(0, "a,b") != derive(0, "a", "b")


@given(st.integers(min_value=0), st.lists(st.text() | st.integers()))
def test_seeds_fit_into_63_bits_for_any_names(seed, names):
    assert 0 <= derive(seed, *names) < 2**63
    assert derive(seed, *names) == derive(seed, *names)
