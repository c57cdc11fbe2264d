"""Task metrics against worked cases."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tspin_mlx.evaluation.metrics import exact_match, json_exact, json_field_f1, json_valid, metric, numeric
from tspin_mlx.recipe.schema import MetricName


@pytest.mark.parametrize(
    ("output", "answer", "score"),
    [
        ("yes", "yes", 1),
        (" yes\n", "yes", 1),
        ("Yes", "yes", 0),
        ("yes.", "yes", 0),
        ("", "", 1),
        ("a  b", "a b", 0),
    ],
)
def test_exact_match_forgives_space_around_only(output, answer, score):
    assert exact_match(output, answer) == score


@pytest.mark.parametrize(
    ("output", "score"),
    [
        ("{}", 1),
        ("[]", 1),
        (' {"a": [1, null]}\n', 1),
        ('{"a": 1} and more', 0),
        ('```json\n{"a": 1}\n```', 0),
        ('{"a": 1', 0),
        ("{'a': 1}", 0),
        ("3", 0),
        ('"a"', 0),
        ("null", 0),
        ("", 0),
        ("[" * 100_000, 0),
        ("[" + "1" * 5000 + "]", 0),
    ],
)
def test_json_valid_wants_one_object_or_list_and_nothing_else(output, score):
    assert json_valid(output, "") == score


@pytest.mark.parametrize(
    ("output", "answer", "score"),
    [
        ('{"a": 1, "b": [1, 2]}', '{"b":[1,2],"a":1}', 1),
        ('{"a": 1.0}', '{"a": 1}', 1),
        ('{"a": 1e2}', '{"a": 100}', 1),
        ('{"a": {"c": 1, "b": 2}}', '{"a": {"b": 2, "c": 1}}', 1),
        ('{"a": "\\u00e9"}', '{"a": "é"}', 1),
        ('{"a": true}', '{"a": 1}', 0),
        ('{"a": false}', '{"a": 0}', 0),
        ('{"a": "1"}', '{"a": 1}', 0),
        ('{"a": null}', "{}", 0),
        ("[1, 2]", "[2, 1]", 0),
        ("[1, 2]", "[12]", 0),
        ('["a", "b"]', '["a,b"]', 0),
        ("[]", "{}", 0),
        ('{"a": 1}x', '{"a": 1}', 0),
        ('{"a": 1}', "none", 0),
        ("none", "none", 0),
    ],
)
def test_json_exact_compares_content(output, answer, score):
    assert json_exact(output, answer) == score


ANSWER = '{"intent": "light", "rooms": ["hall", "bath"], "at": {"h": 7}}'  # four fields


@pytest.mark.parametrize(
    ("output", "answer", "score"),
    [
        (ANSWER, ANSWER, 1),
        ('{"at": {"h": 7.0}, "rooms": ["hall", "bath"], "intent": "light"}', ANSWER, 1),
        # one of one found, one of four wanted: precision 1, recall 1/4
        ('{"intent": "light"}', ANSWER, 2 / 5),
        # three right of four, four wanted
        ('{"intent": "heat", "rooms": ["hall", "bath"], "at": {"h": 7}}', ANSWER, 3 / 4),
        # lists are compared by position
        ('{"rooms": ["bath", "hall"]}', ANSWER, 0),
        ('{"rooms": ["hall"]}', ANSWER, 2 / 5),
        # the same name elsewhere is another field
        ('{"h": 7}', ANSWER, 0),
        # four right of five
        ('{"intent": "light", "rooms": ["hall", "bath"], "at": {"h": 7}, "x": 1}', ANSWER, 8 / 9),
        # a list's first place is not an object's key 0
        ("[5]", '{"0": 5}', 0),
        ('{"a": true}', '{"a": 1}', 0),
        ("{}", "{}", 1),
        ("{}", ANSWER, 0),
        ('{"intent": "light"', ANSWER, 0),
        ("light", ANSWER, 0),
        ('{"a": 1}', "light", 0),
        ("light", "light", 0),
    ],
)
def test_json_field_f1_counts_paths_with_their_values(output, answer, score):
    assert json_field_f1(output, answer) == pytest.approx(score)


@pytest.mark.parametrize(
    ("output", "answer", "score"),
    [
        ("The answer is 18.", "#### 18", 1),
        ("2 + 16 = 18", "18", 1),
        ("18 apples and 3 pears", "18", 0),
        ("$1,234.50", "1234.5", 1),
        ("-5", "5", 0),
        ("It is -5 degrees", "-5", 1),
        ("0.50", ".5", 1),
        ("18.0", "18", 1),
        ("none", "18", 0),
        ("18", "none", 0),
        ("none", "none", 0),
        ("", "", 0),
    ],
)
def test_numeric_compares_the_last_numbers(output, answer, score):
    assert numeric(output, answer) == score


@pytest.mark.parametrize(
    ("pattern", "output", "score"), [("ab+", "xxabb", 1), ("^ab", "xab", 0), ("(?i)yes", "YES", 1), ("a", "", 0)]
)
def test_regex_searches_the_output_and_ignores_the_answer(pattern, output, score):
    assert metric("regex", pattern)(output, "anything") == score


@pytest.mark.parametrize("name", MetricName.__args__)
@given(st.text(), st.text())
def test_every_metric_of_the_recipe_is_between_0_and_1_for_any_text(name, output, answer):
    assert 0 <= metric(name, "a|b")(output, answer) <= 1


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), documents, min_size=1))
def test_a_document_agrees_with_itself_in_any_order_of_keys(document):
    output = json.dumps(document)
    answer = json.dumps(dict(reversed(document.items())), indent=1, ensure_ascii=False)
    assert json_valid(output, answer) == json_exact(output, answer) == json_field_f1(output, answer) == 1
