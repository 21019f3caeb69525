"""Times and sizes as people write them."""

import pytest

from queueapi.cli.quantities import gigabytes, moment, seconds, span


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("4h", 14_400),
        ("1.5h", 5400),
        ("2d", 172_800),
        ("1h30m", 5400),
        ("2:30", 9000),
        ("02:30:15", 9015),
        ("1-02:00:00", 93_600),
    ],
)
def test_seconds(text: str, wanted: float) -> None:
    assert seconds(text) == wanted


@pytest.mark.parametrize("text", ["", "90", "s", "1h 30", "1:99", "-5m", "1e9s", "soon"])
def test_not_a_time(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "wanted"), [("4", 4), ("4G", 4), ("4GiB", 4), ("512m", 0.5), ("1.5T", 1536)]
)
def test_gigabytes(text: str, wanted: float) -> None:
    assert gigabytes(text) == wanted


@pytest.mark.parametrize("text", ["", "G", "-1", "4X", "nan"])
def test_not_a_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        gigabytes(text)


def test_span_reads_back() -> None:
    assert [span(s) for s in (2, 3600, 93_784)] == ["0:00:02", "1:00:00", "1-2:03:04"]
    assert seconds(span(93_784)) == 93_784


def test_moment_has_a_zone() -> None:
    assert moment("2026-11-20T14:30+02:00").startswith("2026-11-20T")
    assert moment("2026-11-20")[-6] in "+-"
