"""Text for people: nothing in it can command a terminal."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tspin_mlx.base.text import abridge, did_you_mean, duration, printable, shorten, signed, sparkline

HOSTILE = {
    "clear screen": ("\x1b[2Jgone", "[2Jgone"),
    "clipboard (OSC 52)": ("\x1b]52;c;cm0gLXJm\x07", "]52;c;cm0gLXJm"),
    "window title": ("\x1b]0;root\x1b\\", "]0;root\\"),
    "hyperlink (OSC 8)": ("\x1b]8;;http://x\x1b\\y", "]8;;http://x\\y"),
    "8-bit CSI": ("\x9b31mred", "31mred"),
    "8-bit OSC": ("\x9d52;c;eA==\x9c", "52;c;eA=="),
    "backspace": ("safe\b\b\b\bevil", "safeevil"),
    "carriage return": ("good\rbad", "good bad"),
    "bell and NUL": ("\a\0", ""),
    "delete": ("a\x7fb", "ab"),
    "bidi override": ("abc\u202egpj.exe\u202c", "abcgpj.exe"),
    "bidi isolates and marks": ("a\u2066b\u2069c\u200ed\u200fe\u061cf", "abcdef"),
    "private use": ("a\ue000b", "ab"),
    "lone surrogate": ("a\ud83db", "ab"),
    "tab and newline": ("a\tb\nc\r\nd", "a b c  d"),
}


@pytest.mark.parametrize(("text", "expected"), HOSTILE.values(), ids=HOSTILE)
def test_characters_that_a_terminal_could_obey_are_removed(text, expected):
    assert printable(text) == expected


def test_newlines_are_kept_on_request_and_nothing_else():
    assert printable("a\r\nb\x1b[0m\tc\n", keep_newlines=True) == "a \nb[0m c\n"


@pytest.mark.parametrize("text", ["", "plain", "Grüße, 東京, здравствуй", "שלום", "👩‍👩‍👧 ½ ≤ …", "e\u0301"])
def test_ordinary_text_is_unchanged(text):
    assert printable(text) == text


@given(st.text(st.characters()), st.booleans())
def test_no_control_character_is_left(text, keep_newlines):
    shown = printable(text, keep_newlines=keep_newlines)
    left = shown.replace("\n", "") if keep_newlines else shown
    assert not [char for char in left if unicodedata.category(char) in ("Cc", "Cs")]
    assert not [char for char in left if unicodedata.bidirectional(char) in BIDI_CONTROLS]
    assert printable(shown, keep_newlines=keep_newlines) == shown


BIDI_CONTROLS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("short", 5, "short"),
        ("longer", 5, "long…"),
        ("a\n\n  b\tc", 9, "a b c"),
        ("\x1b[31mred", 9, "[31mred"),
        ("abc", 1, "…"),
        ("", 3, ""),
    ],
)
def test_shortened_text_is_one_line_of_the_width(text, width, expected):
    assert shorten(text, width) == expected


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [("sweep-anchored-seed=3", 12, "sweep…seed=3"), ("a\nlong one", 4, "a…ne"), ("abc", 1, "…"), ("same", 4, "same")],
)
def test_abridged_text_keeps_both_ends(text, width, expected):
    assert abridge(text, width) == expected


@pytest.mark.parametrize("cut", [shorten, abridge])
@given(text=st.text(st.characters()), width=st.integers(0, 30))
def test_shortened_text_is_never_wider(cut, text, width):
    assert len(cut(text, width)) <= width


@pytest.mark.parametrize(
    ("word", "expected"), [("epoch", "epochs"), ("epochs", "epochs"), ("apha", "alpha"), ("zzz", None), ("", None)]
)
def test_the_nearest_word_is_suggested(word, expected):
    assert did_you_mean(word, iter(["epochs", "alpha", "beta"])) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0s"),
        (0.4, "0s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (75, "1m15s"),
        (3599, "59m59s"),
        (3600, "1h00m"),
        (3659, "1h00m"),
        (3660, "1h01m"),
        (90_000, "25h00m"),
    ],
)
def test_durations_in_words(seconds, expected):
    assert duration(seconds) == expected


@pytest.mark.parametrize(("value", "expected"), [(1.234, "+1.23"), (-1.236, "−1.24"), (0, "+0.00"), (12, "+12.00")])
def test_numbers_with_their_sign(value, expected):
    assert signed(value) == expected


def test_sparkline():
    assert sparkline([0.0, 1.0, float("nan"), 0.5]) == "▁█▅"
    assert sparkline([2.0, 2.0]) == "▁▁"
    assert sparkline([100.0, 0.0, 1.0], width=2) == "▁█"
    assert sparkline([]) == ""


@given(st.lists(st.floats(width=32)))
def test_any_values_make_a_sparkline(values):
    assert len(sparkline(values)) <= 12
