"""Curves of a picture."""

from __future__ import annotations

import pytest

pytest.importorskip("matplotlib")

from queueapi.simulate.plot import means


def test_means_over_equal_parts_of_the_time() -> None:
    spans = [(0.0, 10.0, 4), (5.0, 7.5, 2), (20.0, 20.0, 9)]
    assert means(spans, 0.0, 20.0, 4) == [4.0, 5.0, 0.0, 0.0]


def test_never_more_than_there_is() -> None:
    """Two jobs in turn on one CPU, at edges that rounding puts on either side."""
    end = 692_980.0
    spans = [(0.0, end / 3, 1), (end / 3, end, 1)]
    assert means(spans, 0.0, end, 400) == pytest.approx([1.0] * 400)


def test_no_area_is_lost_to_rounding() -> None:
    begin, end = 1_700_000_000.1, 1_700_012_345.7
    spans = [(begin, end, 3), (begin + 0.3, begin + 5000.7, 2)]
    area = sum(means(spans, begin, end, 7)) * (end - begin) / 7
    assert area == pytest.approx(3 * (end - begin) + 2 * 5000.4)
