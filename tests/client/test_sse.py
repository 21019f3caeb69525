"""Server-sent events, however the network cuts them."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from queueapi.client._sse import EventReader, ServerEvent

STREAM = (
    ": still here\n\n"
    'id: 3\nevent: log\ndata: {"text":"a\u2028b\x85"}\n\n'
    "event: end\r\ndata: one\r\ndata: two\r\n\r\n"
    "data:x\n\n"
).encode()
EVENTS = [
    ServerEvent("log", '{"text":"a\u2028b\x85"}', "3"),
    ServerEvent("end", "one\ntwo", "3"),
    ServerEvent("message", "x", "3"),
]


@given(st.lists(st.integers(0, len(STREAM))))
def test_any_cuts(cuts: list[int]) -> None:
    reader = EventReader()
    edges = [0, *sorted(cuts), len(STREAM)]
    parts = [STREAM[a:b] for a, b in pairwise(edges)]
    assert [event for part in parts for event in reader.feed(part)] == EVENTS


def test_an_event_that_is_cut_off_is_none() -> None:
    assert EventReader().feed(b"event: log\ndata: x\n") == []
