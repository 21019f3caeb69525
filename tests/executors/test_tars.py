"""A tar that a cluster wrote, as a job's user gets it: plain files and folders alone."""

import io
import tarfile
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queueapi.executors import tars
from queueapi.executors.base import ExecutorUnavailable

HOSTILE = ("/etc/passwd", "../up", "a/../../b", "./", ".", "a//b", "a/./b", "x" * 5000)


async def parts(data: bytes, size: int = 700) -> AsyncIterator[bytes]:
    yield b""  # as where a greeting ends
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def plain(data: bytes, size: int = 700) -> bytes:
    return b"".join([part async for part in tars.plain(parts(data, size))])


def add(tar: tarfile.TarFile, name: str, data: bytes = b"", **fields: object) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = len(data), 1_700_000_000, 0o6755
    for field, value in fields.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(data))


def make() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        add(tar, "./", type=tarfile.DIRTYPE)
        add(tar, "./deep/", type=tarfile.DIRTYPE)
        add(tar, "./deep/one", b"1" * 1025)
        add(tar, f"./deep/{'long' * 50}/two", b"22")
        add(tar, "./o\udcffd", b"odd")
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            add(tar, f"./link{kind!r}", type=kind, linkname="/etc/" + "passwd" * 40)
        for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"S", b"x", b"V"):
            add(tar, f"./other{kind!r}", b"data" * 200, type=kind)
        for name in HOSTILE:
            add(tar, name, b"never")
        add(tar, "./last", b"end")
    return buffer.getvalue()


@pytest.mark.parametrize("size", [1, 511, 512, 513, 1 << 20])
async def test_links_devices_and_names_that_lead_elsewhere_are_left_out(size: int) -> None:
    with tarfile.open(fileobj=io.BytesIO(await plain(make(), size)), errorlevel=2) as tar:
        members = tar.getmembers()
        found = {m.name: tar.extractfile(m).read() for m in members if m.isreg()}  # type: ignore[union-attr]
    assert found == {
        "deep/one": b"1" * 1025,
        f"deep/{'long' * 50}/two": b"22",
        "o\udcffd": b"odd",
        "last": b"end",
    }
    assert [m.name for m in members if not m.isreg()] == ["deep"]
    assert {(m.mtime, m.mode, m.uid) for m in members} == {(1_700_000_000, 0o755, 0)}


async def test_one_that_is_cut_off_never_looks_whole() -> None:
    whole = make()
    end = whole.index(b"end") + 512 - 3 % 512
    for stop in (0, 1, 512, 1000, 2047, end - 600, end - 1):
        taken = b""
        with pytest.raises(ExecutorUnavailable, match="was cut off"):
            async for part in tars.plain(parts(whole[:stop])):
                taken += part
        assert not taken.endswith(tars.END)


@given(st.binary(max_size=3000))
async def test_what_is_no_tar_is_said_to_be_none(noise: bytes) -> None:
    data = b"\1" + noise
    with pytest.raises(ExecutorUnavailable):
        await plain(data)


@given(st.integers(0, 20_000), st.integers(1, 255))
async def test_a_tar_with_one_wrong_byte_is_refused_or_read_and_nothing_else(
    at: int, by: int
) -> None:
    data = bytearray(make())
    data[at % len(data)] = (data[at % len(data)] + by) % 256
    try:
        found = await plain(bytes(data))
    except ExecutorUnavailable:
        return
    with tarfile.open(fileobj=io.BytesIO(found), errorlevel=2) as tar:
        for member in tar:
            assert member.isreg() or member.isdir()
            assert not member.name.startswith("/") and ".." not in member.name.split("/")


async def test_memory_does_not_grow_with_a_name_that_never_ends() -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    with pytest.raises(ExecutorUnavailable, match="a name that is none"):
        await plain(info.tobuf(tarfile.GNU_FORMAT) + b"x" * 2048)
