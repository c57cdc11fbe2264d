"""The arithmetic of the tables of the experiments."""

import pytest

from experiments import tables
from tspin_mlx.base.errors import UsageError


def row(arm, seed, initial, best, *, last=None, **more):
    """A run of one iteration, chosen or not."""
    last = best if last is None else last
    part = {"initial": {"f1": initial}, "iterations/000": {"f1": last, "nll": 1.0, "stop_rate": 0.5}}
    return {
        "name": f"{arm}-{seed}", "arm": arm, "seed": seed, "settings": {}, "sweep": "s", "measure": "f1",
        "best": "iterations/000", "validation": part,
        "test": {"initial": {"f1": initial}, "iterations/000": {"f1": best}}, "trained_tokens": 1000,
        "sampled_tokens": 100, "iteration_seconds": 60.0, "peak_memory_bytes": 2**30,
        "machine": {"system": "Linux", "device": "a CPU"}, "versions": {"mlx": "1.2"}, **more,
    }  # fmt: skip


def test_differences_are_taken_seed_by_seed():
    ours = [row("tspin-100", seed, 0.1, best) for seed, best in ((0, 0.5), (1, 0.9), (2, 0.3))]
    theirs = [row("sft-100", seed, 0.1, best) for seed, best in ((1, 0.6), (0, 0.4))]
    assert "| tspin-100 | sft-100 | 2 | +0.200 ± 0.100 |" in tables.markdown(ours + theirs)  # 0.1 and 0.3
    assert "Differences" not in tables.markdown(ours)


def test_rivals():
    assert tables.rivals("sft-100") == []
    assert tables.rivals("spin-100") == ["sft-100"]
    assert tables.rivals("tspin-100") == ["sft-100", "spin-100"]
    assert tables.rivals("sft-50") == ["sft-100"]
    assert tables.rivals("tspin-first") == tables.rivals("sft-100-passes-4") == []
    assert tables.rivals("tspin-no-history-25") == ["sft-25", "spin-25", "sft-100"]


def test_tables():
    rows = [row("sft-100", 0, 0.1, 0.4), row("sft-100", 1, 0.2, 0.6, iteration_seconds=None)]
    rows += [row("tspin-100", 0, 0.1, 0.3, last=0.1), row("tspin-100", 1, 0.2, 0.9, peak_memory_bytes=None)]
    text = tables.markdown(rows)
    # best − initial: .3 and .4; tspin .2 and .7; tspin − sft: −.1 and +.3. Half the distance of two is their error.
    assert "| sft-100 | 2 | 0.150 ± 0.050 | 0.500 ± 0.100 | +0.350 ± 0.050 |" in text
    assert "| tspin-100 | 2 | 0.150 ± 0.050 | 0.600 ± 0.300 | +0.450 ± 0.250 |" in text
    assert "| tspin-100 | sft-100 | 2 | +0.100 ± 0.200 |" in text
    assert "| tspin-100 | 0.150 ± 0.050 | 0.500 ± 0.400 | +0.350 ± 0.350 |" in text
    # One iteration, 0.1 → 0.1 and 0.2 → 0.9: worst − initial and step are 0 and .7.
    assert "| tspin-100 | +0.350 ± 0.350 | 0.350 ± 0.350 | 0.566 |" in text
    assert "| sft-100 | 0.500 ± 0.000 | 1.000 ± 0.000 | – | – | 1,000 | 100 | 1.00 GiB | 60.0 |" in text
    assert "Measured on a CPU, Linux, with mlx 1.2." in text
    assert "Differences" not in tables.markdown(rows[:1])
    with pytest.raises(UsageError, match="no run measured 'f2'"):
        tables.markdown(rows, "f2")


def test_the_picture_has_a_line_for_each_arm():
    rows = [row("sft-100", 0, 0.1, 0.4), row("tspin-100", 0, 0.1, 0.3), row("tspin-25", 0, 0.1, 0.3)]
    picture = tables.picture(rows, None, None)
    assert picture.count("<polyline") == 2 and "tspin-25" not in picture
    rows[2]["validation"]["iterations/001"] = {"f1": 0.2}
    assert "iteration 1" in tables.picture(rows, "f1", ["tspin-25"]) and "iteration 1" not in picture
    assert "iteration 1" not in tables.picture(rows, "f1", ["sft-100"])
    with pytest.raises(UsageError, match="no arm is called 'x'"):
        tables.picture(rows, None, ["x"])
    with pytest.raises(UsageError, match="1 to 8 arms, not 0"):
        tables.picture(rows[2:], None, None)
