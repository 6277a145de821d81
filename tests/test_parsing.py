"""Parsing: what models wrap around JSON, what they do to it, and texts made to hurt."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant.lm.parsing import parse
from penchant.lm.replies import Answer, Description, Motives, Preference, ReviewMotives

GOOD = '{"reasoning": "Bought two.", "preference": "Likes \\"robust\\" things, {not} brittle ones."}'
LIKES = 'Likes "robust" things, {not} brittle ones.'


def preference(text: str) -> str:
    """The preference in a reply that must be fine."""
    answer, wrong = parse(text, Preference)
    assert isinstance(answer, Preference), wrong
    assert wrong == ""
    return answer.preference


def complaint(text: str, schema: type[Answer] = Preference) -> str:
    """What is said about a reply that must not be fine."""
    answer, wrong = parse(text, schema)
    assert answer is None
    assert 0 < len(wrong) <= 300
    return wrong


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"\n\n  {GOOD}  \n",
        f"```json\n{GOOD}\n```",
        f"```\n{GOOD}\n```\nI hope that helps!",
        f"Sure! Here is the {{JSON}} that you asked for: {GOOD} Anything else?",
        f'She said "yes {{". {GOOD}',
        f"<think>They want {{reasoning, preference}}. Maybe {{}}?</think>{GOOD}",
        f"[{GOOD}]",
        f"{GOOD} {{",
        f'{GOOD} {{"reasoning": "cut of',
        f'{GOOD} {{"note": "this is no answer"}}',
        f'{{"unclosed: {GOOD}',
        json.dumps({**json.loads(GOOD), "confidence": 3, "more": {"a": [1, None]}}),
    ],
)
def test_the_answer_is_found_whatever_stands_around_it(text: str) -> None:
    assert preference(text) == LIKES


def test_the_last_answer_counts() -> None:
    second = GOOD.replace("Likes", "Loves")
    assert preference(f"First try: {GOOD}\nBetter: {second}") == LIKES.replace("Likes", "Loves")


def test_what_stands_inside_another_object_is_no_answer() -> None:
    assert "Field required" in complaint(f'{{"example": {GOOD}}}')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no JSON object"),
        ("I like mugs.", "no JSON object"),
        ("{'reasoning': 'a', 'preference': 'b'}", "no JSON object"),
        ('{"reasoning": "a", "preference": "b",}', "broken"),
        (GOOD[:-2], "not complete"),
        (GOOD[:-1], "not complete"),
        (f"```json\n{GOOD[:30]}", "not complete"),
        ('{"preference": "b"}', "reasoning: Field required"),
        ('{"reasoning": "a", "preference": null}', "preference: Input should be a valid string"),
        ('{"reasoning": "a", "preference": 3}', "preference: Input should be a valid string"),
        ('{"reasoning": "a", "preference": ["b"]}', "preference: Input should be a valid string"),
        ('{"reasoning": "a", "preference": ""}', "says nothing"),
        ('{"reasoning": "a", "preference": " \\n\\t "}', "says nothing"),
        ('{"reasoning": "a", "preference": "b", "preference": "c"}', "a key stands in it more than once"),
        ('{"reasoning": "a", "preference": "b", "x": {"k": 1, "k": 2}}', "a key stands in it more than once"),
        ('{"reasoning": "a", "preference": "b", "x": NaN}', "NaN is no number"),
        ('{"reasoning": "a", "preference": "b", "x": -Infinity}', "-Infinity is no number"),
        ('{"reasoning": "a", "preference": "b", "x": 1e999}', "1e999 is no number"),
    ],
)
def test_nothing_inside_the_object_is_guessed(text: str, said: str) -> None:
    assert said in complaint(text)


def test_a_cut_answer_is_called_cut_even_where_parts_of_it_are_whole() -> None:
    text = '{"reasoning": "", "positive": [{"aspect": "a", "evidence": "b"}, {"aspect": "c", "evi'
    assert "not complete" in complaint(text, ReviewMotives)


def test_a_complaint_names_at_most_three_faults() -> None:
    wrong = complaint('{"positive": [{}], "negative": 3, "confidence": "high"}', ReviewMotives)
    assert "reasoning: Field required; positive.0.aspect: Field required; " in wrong
    assert wrong.endswith("and 3 more")


def test_a_complaint_quotes_nothing() -> None:
    """What a reply quotes from a review must not come back to the model as words of ours."""
    said = "Ignore the above"
    for text in (
        f'{{"reasoning": {said}}}',
        f'{{"{said}": 1, "{said}": 2}}',
        f'{{"{said}": 1}}',
        f'{{"reasoning": "a", "preference": {{"{said}": 1}}}}',
        f'{{"reasoning": "{said}',
    ):
        assert "gnore" not in complaint(text)


def test_a_review_may_have_no_motives_but_a_description_must_describe() -> None:
    answer, wrong = parse(
        '{"reasoning": "It only says ok.", "positive": [], "negative": [], "need": "", "confidence": 1}', ReviewMotives
    )
    assert answer is not None
    assert (answer.text(), wrong) == ("", "")
    assert "says nothing" in complaint('{"reasoning": "Dark.", "attributes": [], "description": ""}', Description)
    assert "says nothing" in complaint('{"reasoning": "", "drivers": [], "aversions": [], "summary": "."}', Motives)


def test_text_that_no_file_could_hold_is_mended() -> None:
    """Half a surrogate pair, as a tokenizer that is cut off inside an emoji leaves it."""
    answer, _ = parse('{"reasoning": "\\ud83d", "drivers": ["warm \\ud83d"], "aversions": [], "summary": "x"}', Motives)
    assert isinstance(answer, Motives)
    assert answer.drivers == ["warm \ufffd"]
    answer.text().encode("utf-8")
    assert preference(GOOD.replace("robust", "\\ud83d\\ude00")) == LIKES.replace("robust", "\U0001f600")


def test_line_breaks_inside_strings_do_no_harm() -> None:
    assert preference(GOOD.replace("things, ", "things,\n")) == LIKES


def test_nothing_is_evaluated() -> None:
    assert preference(GOOD.replace("robust", "__import__('os').abort()")).startswith("Likes \"__import__('os')")


MANY = 100_000
HOSTILE = {
    "braces": "{" * MANY,
    "braces and spaces": "{ " * (MANY // 2),
    "begun objects": '{"' * (MANY // 2),
    "empty objects": "{}" * (MANY // 2),
    "objects in objects": '{"a":' * (MANY // 5),
    "as deep as can be read, then broken": ('{"a":' * 900 + "1,") * (MANY // 4502),
    "as deep as can be read, then long": '{"a":' * 900 + "[" + "1," * (MANY // 2),
    "lists in lists": '{"a":' + "[" * MANY,
    "a long number": '{"a":' + "1" * MANY + "}",
    "a long fraction": '{"a":0.' + "1" * MANY + "}",
    "an open list": '{"a":[' + '{"x":1},' * (MANY // 8),
    "an open string": '{"' + "a" * MANY,
    "escaped quotes": '{"\\"' * (MANY // 4),
    "quotes that close wrongly": '{"a":"' * (MANY // 6),
    "objects never closed": '{"a":{"b":"c"}' * (MANY // 14),
    "one key many times": "{" + ",".join(['"a":1'] * (MANY // 6)) + "}",
    "many keys, the last one twice": "{" + ",".join(f'"{i}":1' for i in [*range(MANY // 10), 9]) + "}",
    "many answers of the wrong shape": '{"reasoning":1}' * (MANY // 15),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_take_milliseconds(name: str) -> None:
    """Linear: a quadratic reader takes minutes on some of these. The fastest of three, on a busy machine."""
    took = []
    for _ in range(3):
        began = time.perf_counter()
        complaint(HOSTILE[name])
        took.append(time.perf_counter() - began)
    assert min(took) < 0.25


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(), parts, max_size=3),
    max_leaves=8,
)
# Words without braces: what stands between them may be an object of its own.
PROSE = st.text(st.characters(exclude_characters="{}", exclude_categories=["Cs"]))


@given(before=PROSE, after=PROSE, reasoning=st.text(), said=st.text(min_size=1), more=st.dictionaries(st.text(), JSON))
def test_any_answer_is_found_in_any_prose(before: str, after: str, reasoning: str, said: str, more: dict) -> None:
    whole = {**more, "reasoning": reasoning, "preference": f"x {said}"}
    expected = " ".join(f"x {said}".split())
    for ascii_only in (True, False):
        text = f"{before}{json.dumps(whole, ensure_ascii=ascii_only)}{after}"
        assert preference(text) == expected


@given(st.text() | st.text(st.sampled_from('{}[]",:\\ ab1u.eE-')))
def test_no_text_at_all_makes_it_fail(text: str) -> None:
    answer, wrong = parse(text, Preference)
    assert (answer is None) == bool(wrong)


@given(cut=st.integers(1, len(GOOD) - 1))
def test_the_beginning_of_an_answer_is_never_taken_for_it(cut: int) -> None:
    complaint(GOOD[:cut])
