"""Slurm's times, both ways."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queueapi.executors.slurm.times import (
    BadTime,
    format_span,
    minutes_up,
    parse_instant,
    parse_limit,
    parse_span,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0:00", 0),
        ("1:40", 100),
        ("59:59", 3599),
        ("1:00:00", 3600),
        ("00:00:07", 7),
        ("7-00:00:00", 604_800),
        ("1-02:03:04", 93_784),
        ("2-04", 187_200),
        ("2-04:30", 189_000),
        ("365-00:00:00", 31_536_000),
        ("00:04.636", 4.636),
        ("01:02:03.5", 3723.5),
        ("4711", 4711),
        (" 1:00 ", 60),
        ("UNLIMITED", math.inf),
        ("Infinite", math.inf),
        ("INVALID", None),
        ("NOT_SET", None),
        ("N/A", None),
        ("None", None),
        ("Unknown", None),
        ("", None),
    ],
)
def test_a_span_is_read_in_each_of_its_forms(text: str, seconds: float | None) -> None:
    assert parse_span(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["1:2:3:4", "-1", "1d", "1-", "-", ":", "1:", "½", "１２", "1e3", "nan", "1-2:3:4:5", "1.5.5"],
)
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(BadTime, match="not a time of Slurm's"):
        parse_span(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 1800), ("0", 0), ("30:15", 1815), ("1-0", 86_400), ("UNLIMITED", math.inf)],
)
def test_a_number_alone_is_minutes_where_people_write_a_limit(text: str, seconds: float) -> None:
    assert parse_limit(text) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0-00:00:00"), (59.2, "0-00:01:00"), (3600, "0-01:00:00"), (90_061, "1-01:01:01")],
)
def test_a_span_is_written_with_its_days(seconds: float, text: str) -> None:
    assert format_span(seconds) == text


@given(st.integers(0, 10**9))
def test_what_is_written_is_read_again(seconds: int) -> None:
    assert parse_span(format_span(seconds)) == seconds


@pytest.mark.parametrize("seconds", [math.nan, -1.0, -math.inf])
def test_what_is_no_span_is_not_written(seconds: float) -> None:
    with pytest.raises(BadTime):
        format_span(seconds)


@pytest.mark.parametrize(
    ("seconds", "minutes"), [(0.001, 1), (59, 1), (60, 1), (60.1, 2), (3600, 60), (86_399, 1440)]
)
def test_a_limit_is_rounded_up_to_minutes_and_never_becomes_none(
    seconds: float, minutes: int
) -> None:
    assert minutes_up(seconds) == minutes


@pytest.mark.parametrize("seconds", [0, -5, math.inf, math.nan])
def test_what_slurm_would_take_for_no_limit_is_refused(seconds: float) -> None:
    with pytest.raises(BadTime):
        minutes_up(seconds)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1795176685", 1_795_176_685.0),
        ("2026-11-20T12:11:25", 1_795_176_685.0),
        ("N/A", None),
        ("None", None),
        ("Unknown", None),
        ("0", None),
    ],
)
def test_an_instant_is_read(text: str, instant: float | None) -> None:
    assert parse_instant(text) == instant


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    for parse in (parse_span, parse_limit, parse_instant):
        try:
            value = parse(text)
        except BadTime:
            continue
        assert value is None or value >= 0
