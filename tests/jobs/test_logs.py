"""Logs to download: by offset, range, and from the end."""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from queueapi.errors import RangeNotSatisfiable
from queueapi.executors.base import Stream
from queueapi.jobs.logs import CHUNK, Log, parse_range
from tests.staging import NODE, Caller, Puppet, Stage

Make = Callable[..., Any]
TEXT = b"zero\none\ntwo\nthree\n"


@asynccontextmanager
async def written(
    stage: Stage, make_person: Make, stdout: bytes = TEXT, stderr: bytes = b"oops"
) -> AsyncIterator[tuple[Puppet, Caller, str]]:
    """A job that has written this, and the path of its logs."""
    puppet = Puppet(NODE)
    async with stage(puppet) as (_, client):
        caller = Caller(client, await make_person())
        job_id = await caller.submit()
        key = await puppet.begun(job_id)
        puppet.write(key, stdout)
        puppet.write(key, stderr, Stream.STDERR)
        puppet.end(key)
        await caller.until(job_id, "completed")
        yield puppet, caller, f"/api/jobs/{job_id}/logs"


async def test_both_streams_by_offset_and_limit(stage: Stage, make_person: Make) -> None:
    async with written(stage, make_person) as (_, caller, path):
        for query, wanted, offset in (
            ("", TEXT, 0),
            ("?stream=stdout", TEXT, 0),
            ("?stream=stderr", b"oops", 0),
            ("?offset=5", TEXT[5:], 5),
            ("?offset=5&limit=3", b"one", 5),
            ("?limit=4", b"zero", 0),
            ("?offset=19", b"", 19),
            ("?offset=1000", b"", 19),
            ("?offset=5&tail=1", b"three\n", 13),
            ("?offset=15&tail=1", b"ree\n", 15),
            ("?tail=2&limit=3", b"two", 9),
            ("?attempt=1", TEXT, 0),
        ):
            answer = await caller.get(path + query)
            assert (answer.status_code, answer.content) == (200, wanted), query
            assert answer.headers["content-length"] == str(len(wanted))
            assert answer.headers["x-log-offset"] == str(offset), query
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            assert answer.headers["accept-ranges"] == "bytes"
            assert answer.headers["x-log-size"] == ("4" if "stderr" in query else "19")
        for bad in ("stream=both", "offset=-1", "limit=0", "tail=-1", "tail=x", "attempt=0",
                    f"offset={2**70}", "follow=perhaps"):  # fmt: skip
            assert (await caller.get(f"{path}?{bad}")).status_code == 422, bad
        gone = await caller.get(f"{path}?attempt=2")
        assert (gone.status_code, "attempt 2" in gone.json()["detail"]) == (404, True)


async def test_ranges(stage: Stage, make_person: Make) -> None:
    async with written(stage, make_person) as (_, caller, path):
        for header, first, last in (
            ("bytes=0-3", 0, 3),
            ("bytes=5-", 5, 18),
            ("bytes=-6", 13, 18),
            ("bytes=-1000", 0, 18),
            ("bytes=18-9999999999999999999", 18, 18),
        ):
            answer = await caller.get(path, headers={"Range": header})
            assert (answer.status_code, answer.content) == (206, TEXT[first : last + 1]), header
            assert answer.headers["content-range"] == f"bytes {first}-{last}/19"
        for header in ("bytes=0-1,4-5", "lines=1-2", "bytes=5-3", "bytes=-", "bytes=a-b", "0-4"):
            answer = await caller.get(path, headers={"Range": header})
            assert (answer.status_code, answer.content) == (200, TEXT), header
        for header in ("bytes=19-", "bytes=100-200", "bytes=-0"):
            answer = await caller.get(path, headers={"Range": header})
            assert answer.status_code == 416
            assert answer.headers["content-range"] == "bytes */19"
            assert answer.json()["type"] == "/problems/range-not-satisfiable"
        both = await caller.get(f"{path}?tail=1", headers={"Range": "bytes=0-1"})
        assert both.status_code == 422


def test_a_range_is_what_rfc_9110_says() -> None:
    assert parse_range(None, 10) is None
    assert parse_range("bytes=0-0", 10) == (0, 1)
    assert parse_range(" bytes=2- ", 10) == (2, 10)
    for header in ("bytes=0-", "bytes=-5"):
        with pytest.raises(RangeNotSatisfiable):
            parse_range(header, 0)


def last_lines(data: bytes, lines: int) -> bytes:
    return b"".join(data.splitlines(keepends=True)[-lines:]) if lines else b""


async def test_the_last_lines_are_exact(stage: Stage, make_person: Make) -> None:
    del stage, make_person
    puppet, draw = Puppet(), random.Random(3)
    texts = [b"", b"\n", b"\n\n\n", b"a", b"a\nb", b"a\nb\n", b"x" * (3 * CHUNK),
             b"x" * CHUNK + b"\n", b"x" * (CHUNK - 1) + b"\n" + b"y" * CHUNK,
             b"y\n" * CHUNK, b"\n" * (CHUNK + 1)]  # fmt: skip
    for _ in range(20):  # lines that begin and end about where a chunk does
        lengths = [draw.choice((0, 1, CHUNK - 1, CHUNK, CHUNK // 2)) for _ in range(6)]
        text = b"".join(b"z" * n + b"\n" for n in lengths)
        texts.append(text if draw.random() < 0.5 else text[:-1])
    for number, text in enumerate(texts):
        puppet.logs[f"qa-{number}", Stream.STDOUT] = text
        log = Log(puppet, f"qa-{number}", Stream.STDOUT)
        for lines in (0, 1, 2, 3, 7, 100_000):
            # bytes.splitlines() knows more line ends than "\n", but none of them is in here.
            start = await log.offset_of_last_lines(lines, len(text))
            assert text[start:] == last_lines(text, lines), (number, lines)


async def test_a_log_of_a_job_that_has_not_begun_is_empty(stage: Stage, make_person: Make) -> None:
    async with stage(Puppet()) as (_, client):
        caller = Caller(client, await make_person())
        path = f"/api/jobs/{await caller.submit()}/logs"
        for query in ("", "?tail=5", "?offset=3", "?stream=stderr"):
            answer = await caller.get(path + query)
            assert (answer.status_code, answer.content) == (200, b"")
            assert answer.headers["x-log-size"] == "0"
        assert (await caller.get(f"{path}?attempt=1")).status_code == 404


async def test_an_empty_log_is_empty(stage: Stage, make_person: Make) -> None:
    async with written(stage, make_person, b"", b"") as (_, caller, path):
        for query in ("", "?tail=5", "?tail=0", "?offset=7"):
            assert (await caller.get(path + query)).content == b""
        assert (await caller.get(path, headers={"Range": "bytes=0-"})).status_code == 416


async def test_each_attempt_keeps_its_log(stage: Stage, make_person: Make) -> None:
    async with written(stage, make_person) as (puppet, caller, path):
        job_id = int(path.split("/")[3])
        await caller.post(f"/api/jobs/{job_id}/requeue")
        key = await puppet.launched(job_id, 2)
        puppet.write(key, b"second")
        puppet.end(key)
        await caller.until(job_id, "completed")
        for query, wanted in (("", b"second"), ("?attempt=2", b"second"), ("?attempt=1", TEXT)):
            assert (await caller.get(path + query)).content == wanted
        followed = await caller.get(f"{path}?attempt=1&follow=true")
        assert "three" in followed.text and "second" not in followed.text


async def test_a_cluster_that_is_away_is_no_fault_of_ours(stage: Stage, make_person: Make) -> None:
    async with written(stage, make_person) as (puppet, caller, path):
        puppet.is_away = True
        for query in ("", "?tail=1"):
            answer = await caller.get(path + query)
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
            assert int(answer.headers["retry-after"]) > 0
        document = await caller.job(int(path.split("/")[3]))
        assert (document["status"], document["stdout_tail"]) == ("completed", "")


async def test_the_tails_in_the_document_are_the_last_bytes(
    stage: Stage, make_person: Make
) -> None:
    async with written(stage, make_person, b"x" * 5000 + b"\x00end", b"\xff") as (_, caller, path):
        document = await caller.job(int(path.split("/")[3]))
        assert document["stdout_tail"] == "x" * 4092 + "\ufffdend"
        assert document["stderr_tail"] == "\ufffd"
