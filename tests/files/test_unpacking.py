"""An archive is taken in whole and plain, or refused with the name of what is wrong with it."""

import gzip
import io
import os
import stat
import struct
import subprocess
import tarfile
import tempfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from queueapi.files.collecting import Bounds, Refused
from queueapi.files.manifest import Entry, Kind, digest_of, write_archive
from queueapi.files.unpacking import unpack
from tests.files.archives import link, member, tar_gz, tar_of, zip_of, zipped

MIB = 1 << 20
BOUNDS = Bounds(entries=50, size=32 * MIB, ratio=100)


def taken(data: bytes, bounds: Bounds = BOUNDS) -> list[Entry]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sent").write_bytes(data)
        (folder / "blobs").mkdir()
        return unpack(folder / "sent", folder / "blobs", bounds)


def refused(data: bytes, bounds: Bounds = BOUNDS) -> tuple[str | None, str]:
    """The member that is named, and why."""
    with pytest.raises(Refused) as error:
        taken(data, bounds)
    return error.value.member, error.value.why


def paths(entries: list[Entry]) -> list[str]:
    return [entry.path for entry in entries]


FILES = {"main.py": "print(1)\n", "lib/a.py": "a", "lib/deep/b": ""}


def test_each_form_gives_the_same_folder() -> None:
    members = [member(name, data.encode()) for name, data in FILES.items()]
    tar = tar_of(*members)
    forms = [
        tar,
        tar_of(*members[::-1], form=tarfile.GNU_FORMAT),
        tar_of(*members, form=tarfile.USTAR_FORMAT),
        gzip.compress(tar),
        tar_of(*(member(f"./{name}", data.encode(), mtime=9) for name, data in FILES.items())),
        tar_of(member("lib", type=tarfile.DIRTYPE), *members),
        zip_of(FILES.items()),
    ]  # fmt: skip
    found = [taken(form) for form in forms]
    assert paths(found[0]) == ["lib", "lib/a.py", "lib/deep", "lib/deep/b", "main.py"]
    assert {digest_of(entries) for entries in found} == {digest_of(found[0])}


@pytest.mark.parametrize(
    "other",
    [
        FILES | {"main.py": "print(2)\n"},
        FILES | {"more": ""},
        {name.replace("main", "Main"): data for name, data in FILES.items()},
    ],
)
def test_another_content_has_another_digest(other: dict[str, str]) -> None:
    assert digest_of(taken(tar_gz(other))) != digest_of(taken(tar_gz(FILES)))


def test_what_may_be_executed_still_may() -> None:
    tar = tar_of(member("run", b"#!", mode=0o755), member("data", b"#!", mode=0o644))
    zip_ = zip_of([(zipped("run", stat.S_IFREG | 0o755), "#!"), (zipped("data"), "#!")])
    assert digest_of(taken(tar)) == digest_of(taken(zip_))
    assert [entry.executable for entry in taken(tar)] == [False, True]
    assert digest_of(taken(tar)) != digest_of(taken(tar_gz({"run": "#!", "data": "#!"})))


def test_links_that_stay_inside_are_kept() -> None:
    found = taken(
        tar_of(
            member("lib/x.so.1", b"x"),
            link("lib/x.so", "x.so.1"),
            link("current", "lib"),
            link("through", "./current/../lib//x.so"),
            link("lib/up", "../main"),
            member("main", b"m"),
            link("hard", "main", tarfile.LNKTYPE),
        )
    )
    kinds = {entry.path: (entry.kind, entry.target) for entry in found}
    assert kinds["lib/x.so"] == (Kind.LINK, "x.so.1")
    assert kinds["through"] == (Kind.LINK, "./current/../lib//x.so")
    assert kinds["hard"] == (Kind.FILE, "")
    assert {e.path: e.sha256 for e in found}["hard"] == {e.path: e.sha256 for e in found}["main"]
    zip_ = zip_of([("a/b", "x"), (zipped("c", stat.S_IFLNK | 0o777), "a/b")])
    assert {entry.path: entry.target for entry in taken(zip_)}["c"] == "a/b"


OUT = "out of the folder"
HOSTILE = {
    "absolute": (tar_of(member("/etc/passwd", b"x")), "/etc/passwd", "absolute"),
    "dots": (tar_of(member("a/../../x", b"x")), "a/../../x", "'..'"),
    "dots inside": (tar_of(member("a/../x", b"x")), "a/../x", "'..'"),
    "absolute zip": (zip_of([("/x", "x")]), "/x", "absolute"),
    "dots in zip": (zip_of([("../x", "x")]), "../x", "'..'"),
    "backslash": (zip_of([("a\\..\\x", "x")]), "a\\..\\x", "backslash"),
    "link out": (tar_of(member("f", b""), link("l", "../x")), "l", OUT),
    "absolute link": (tar_of(member("f", b""), link("l", "/etc")), "l", OUT),
    "link out through one": (
        tar_of(member("a/b/f", b""), link("s", "a/b"), link("l", "s/../../../x")), "l", OUT,
    ),
    # By the words alone, it is inside: s/../f. The kernel goes to a/f.
    "link that is not where it seems": (
        tar_of(member("f", b""), member("a/b/g", b""), link("s", "a/b"), link("l", "s/../f")),
        "l", "not in the archive",
    ),
    "dangling": (tar_of(member("f", b""), link("l", "g")), "l", "not in the archive"),
    "through a file": (tar_of(member("f", b""), link("l", "f/x")), "l", "not in the archive"),
    "circle": (tar_of(member("f", b""), link("a", "b"), link("b", "a")), "a", "circle"),
    "itself": (tar_of(member("f", b""), link("a", "a")), "a", "circle"),
    "below a link": (
        tar_of(member("d/f", b""), link("l", "d"), member("l/g", b"")), "l/g", "as a link",
    ),
    "below a file": (tar_of(member("f", b""), member("f/g", b"")), "f/g", "as a file"),
    "folder where a file is": (
        tar_of(member("f", b""), member("f", type=tarfile.DIRTYPE)), "f", "as a file",
    ),
    "twice": (tar_of(member("f", b"1"), member("./f", b"2")), "./f", "twice"),
    "no name": (tar_of(member("./", b"x", type=tarfile.REGTYPE)), None, "twice"),
    "hard link out": (
        tar_of(link("l", "/etc/passwd", tarfile.LNKTYPE)), "l", "absolute",
    ),
    "hard link to nothing": (
        tar_of(link("l", "x", tarfile.LNKTYPE)), "l", "not in the archive",
    ),
    "hard link to a link": (
        tar_of(member("f", b""), link("s", "f"), link("l", "s", tarfile.LNKTYPE)),
        "l", "not in the archive",
    ),
    "device": (tar_of(member("d", type=tarfile.CHRTYPE, devmajor=1, devminor=3)), "d", "device"),
    "block device": (tar_of(member("d", type=tarfile.BLKTYPE)), "d", "device"),
    "pipe": (tar_of(member("d", type=tarfile.FIFOTYPE)), "d", "device"),
    "device in a zip": (zip_of([(zipped("d", stat.S_IFCHR | 0o666), "")]), "d", "device"),
    "link out in a zip": (
        zip_of([("f", ""), (zipped("l", stat.S_IFLNK | 0o777), "../../x")]), "l", OUT,
    ),
    "newline": (tar_of(member("a\nb", b"")), "a\nb", "control characters"),
    "escape": (tar_of(member("a\x1b[2Jb", b"")), "a\x1b[2Jb", "control characters"),
    "newline in a link": (tar_of(member("f", b""), link("l", "f\n")), "l", OUT),
    "long name": (tar_of(member("a" * 256, b"")), "a" * 256, "longer than 255"),
    "long path": (tar_of(member("a/" * 500 + "b", b"")), ("a/" * 500)[:300], "path than 1000"),
    "no file": (tar_of(member("d", type=tarfile.DIRTYPE)), None, "no file"),
    "only links": (tar_of(member("d", type=tarfile.DIRTYPE), link("l", "d")), None, "no file"),
    "nothing": (b"", None, "neither"),
    "text": (b"print('hello')\n" * 100, None, "neither"),
    "rar": (b"Rar!\x1a\x07\x00" + bytes(1000), None, "neither"),
    "gzip of text": (gzip.compress(b"print('hello')\n" * 100), None, "damaged"),
    "gzip of a gzip": (gzip.compress(tar_gz({"a": "b"})), None, "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_leads_out_or_is_none_is_refused_by_its_name(name: str) -> None:
    data, member_, why = HOSTILE[name]
    found, said = refused(data)
    assert why in said
    if member_ is not None:
        assert found == member_


def test_a_name_that_is_no_text_is_refused_in_text() -> None:
    member_, why = refused(tar_of(member("a\udcffb", b"")))
    assert "no UTF-8" in why
    assert member_ == "a?b"


def test_too_many_things_are_refused() -> None:
    files = {f"f{n}": b"" for n in range(51)}
    assert refused(tar_gz(files)) == ("f50", refused(tar_gz(files))[1])
    assert "more than 50" in refused(tar_gz(files))[1]
    assert "more than 50" in refused(zip_of(files.items()))[1]
    assert "more than 50" in refused(tar_gz({"a/" * 60 + "b": b""}))[1]  # folders count, too
    assert len(taken(tar_gz({f"f{n}": b"" for n in range(50)}))) == 50


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_a_bomb_is_refused_before_it_has_gone_off(form: str) -> None:
    zeros = bytes(40 * MIB)
    data = tar_gz({"zeros": zeros}) if form == "tar" else zip_of([("zeros", zeros)])
    tracemalloc.start()
    found, why = refused(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == "zeros"
    assert "times as large" in why or "more than 32 MiB" in why
    assert peak < 8 * MIB
    noise = os.urandom(3 * MIB)  # which does not shrink
    data = tar_gz({"noise": noise}) if form == "tar" else zip_of([("noise", noise)])
    assert "more than 2 MiB" in refused(data, Bounds(50, 2 * MIB, 100))[1]


def test_small_files_may_be_as_compressed_as_they_like() -> None:
    assert taken(tar_gz({"zeros": bytes(10 * MIB)}))[0].size == 10 * MIB


def test_one_file_under_many_names_counts_as_often() -> None:
    noise = os.urandom(MIB)
    links = [link(f"l{n}", "noise", tarfile.LNKTYPE) for n in range(40)]
    assert "more than 32 MiB" in refused(tar_of(member("noise", noise), *links))[1]


def test_a_huge_header_is_not_loaded() -> None:
    """A comment of 200 MiB, which compresses to nothing."""
    head = tarfile.TarInfo("pax")
    head.type, head.size = tarfile.XHDTYPE, 200 * MIB
    with tempfile.TemporaryFile() as file:
        with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1) as packed:
            packed.write(head.tobuf())
            for _ in range(200):
                packed.write(bytes(MIB))
        file.seek(0)
        data = file.read()
    tracemalloc.start()
    assert "header of more than" in refused(data)[1]
    assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    tracemalloc.stop()


def test_headers_that_stand_on_headers_end() -> None:
    block = tar_of(member("a" * 200, b""))[:1536]
    assert block[156:157] == tarfile.XHDTYPE
    assert "damaged" in refused(block[:1024] * 3000 + bytes(1024), Bounds(50, 32 * MIB, 9))[1]


def test_a_length_below_zero_leads_nowhere() -> None:
    """In the form for large numbers; a reader that believes it goes in circles."""
    block = bytearray(tar_of(member("a", b""))[:512])
    block[124:136] = (2**96 - 512).to_bytes(12, "big")
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 8 * 32 + sum(block[156:512]))
    assert "damaged" in refused(bytes(block) + bytes(2048))[1]


def test_a_sparse_file_is_refused() -> None:
    with tempfile.TemporaryDirectory() as folder:
        with Path(folder, "holes").open("wb") as file:
            file.truncate(64 * MIB)
        packed = subprocess.run(
            ["tar", "-cS", "-C", folder, "holes"], capture_output=True, check=True
        ).stdout
    found, why = refused(packed)
    assert found == "holes"
    assert "--sparse" in why


def test_a_zip_that_is_not_plain_is_refused() -> None:
    encrypted = bytearray(zip_of([("f", "x")]))
    at = encrypted.rfind(b"PK\x01\x02")
    encrypted[at + 8] |= 1
    assert refused(bytes(encrypted)) == ("f", "It is encrypted.")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("f", "x")
    assert "another method" in refused(buffer.getvalue())[1]


def test_a_zip_may_not_say_less_of_its_directory_than_there_is() -> None:
    data = bytearray(zip_of((f"f{n}", "") for n in range(3000)))
    struct.pack_into("<2H", data, len(data) - 14, 1, 1)  # it says one entry
    assert "more than 50" in refused(bytes(data))[1]
    sixty_four = bytearray(zip_of([("f", "x")]))
    sixty_four[-22:-22] = b"PK\x06\x07" + bytes(16)
    assert "64-bit" in refused(bytes(sixty_four))[1]


def test_a_zip_in_which_all_entries_are_one_file_counts_each() -> None:
    """Entries that overlap: small as it is, its directory names the same megabytes 49 times."""
    inside = zip_of([("f", os.urandom(MIB))])
    directory_at = inside.rfind(b"PK\x01\x02")
    directory = inside[directory_at:-22]
    many = directory * 49
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 49, 49, len(many), directory_at, 0)
    found, why = refused(inside[:directory_at] + many + end)
    assert (found, why) == ("f", "It is in the archive twice.")


@pytest.mark.parametrize(
    "data", [tar_gz(FILES), tar_of(member("f", b"x" * 3000)), zip_of([("a", "b" * 999)])]
)
def test_wherever_it_is_cut_it_is_refused(data: bytes) -> None:
    # A tar ends with two empty blocks and a filling, of which one block is enough.
    end = len(data) if data[:2] != b"f\0" else 3072 + 1024
    for at in [*range(0, end - 512, 97), *range(end - 22, end)]:
        if data[:2] == b"f\0" and at >= end - 512:
            continue
        refused(data[:at])


SOURCES = [
    tar_gz(FILES),
    tar_of(member("a/b", b"x" * 600), link("l", "a/b")),
    zip_of(FILES.items()),
]


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(SOURCES), st.data())
def test_damage_never_does_more_than_refuse(source: bytes, data: st.DataObject) -> None:
    spoilt = bytearray(source)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(spoilt) - 1))
        spoilt[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
        if not spoilt:
            return
    try:
        taken(bytes(spoilt))
    except Refused as error:
        assert error.why


def test_the_archive_that_is_kept_is_the_folder_again(tmp_path: Path) -> None:
    """By the tar of a cluster; and it is the same bytes, however it was sent."""
    sent = tar_of(
        member("run.sh", b"#!/bin/sh\necho hi\n", mode=0o755),
        member("d/" * 60 + "f", b"deep"),
        member("empty", type=tarfile.DIRTYPE),
        link("r", "run.sh"),
    )
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    (tmp_path / "sent").write_bytes(sent)
    entries = unpack(tmp_path / "sent", blobs, Bounds(100, MIB, 9))
    kept = []
    for _ in range(2):
        buffer = io.BytesIO()
        write_archive(entries, blobs, buffer)
        kept.append(buffer.getvalue())
    assert kept[0] == kept[1]
    folder = tmp_path / "folder"
    folder.mkdir()
    subprocess.run(["tar", "-xz", "-C", str(folder)], input=kept[0], check=True)
    assert subprocess.run([folder / "r"], capture_output=True, check=True).stdout == b"hi\n"
    assert (folder / ("d/" * 60 + "f")).read_bytes() == b"deep"
    assert (folder / "empty").is_dir()
    assert (folder / "r").readlink() == Path("run.sh")
    again = subprocess.run(["tar", "-c", "-C", str(folder), "."], capture_output=True, check=True)
    assert digest_of(taken(again.stdout, Bounds(100, MIB, 9))) == digest_of(entries)
