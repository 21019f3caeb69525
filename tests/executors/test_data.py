"""The data of jobs: what may be named, and what its fetch does with real servers."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from queueapi.executors.data import (
    DATA,
    FAILED_CODE,
    FETCHED,
    PROGRAM,
    TARGET,
    DataRules,
    Fetch,
    FetchState,
    Scheme,
    Target,
    failed,
    is_public,
    parse_fetch,
    parse_target,
)
from tests.executors.remote.sshd import Sshd, needs_sshd
from tests.executors.web import Web, cut, repository

COMMIT = "7fd1a60b01f91b314f59955a4e4d4e80d8edf11d"


def test_targets_are_taken_apart() -> None:
    assert parse_target("https://Zenodo.org/record/1/maps.tif?download=1") == Target(
        Scheme.HTTPS,
        "https://Zenodo.org/record/1/maps.tif?download=1",
        "zenodo.org",
        443,
        name="maps.tif",
    )
    assert parse_target("https://a.example:8443").name == "data"
    assert parse_target("https://a.example/..").name == "data"
    assert parse_target("https://a.example/-x").name == "data"
    git = parse_target(f"git+https://github.com/octocat/Hello-World@{COMMIT.upper()}")
    assert (git.place, git.commit) == ("https://github.com/octocat/Hello-World", COMMIT)
    sftp = parse_target("sftp://ada@data.lab:2222/maps/a-b.tif")
    assert (sftp.host, sftp.port, sftp.user, sftp.place) == (
        "data.lab", 2222, "ada", "/maps/a-b.tif"
    )  # fmt: skip
    assert parse_target("path:/shared/maps").place == "/shared/maps"
    assert parse_target("folder:17") == Target(Scheme.FOLDER, "folder:17")


@pytest.mark.parametrize(
    "text",
    [
        "", "maps.tif", "http://a.example/x", "file:///etc/passwd", "ftp://a/x", "HTTPS://a/x",
        "https://", "https:///x", "https://a.example/a b", "https://a.example/a\nb", "-o/etc/x",
        "https://a.example/x\\@b", "https://user:pw@a.example/x", "https://a.example/x#y",
        "https://a.example:0/x", "https://a.example:99999/x", "https://[::1]/x", "https://-a/x",
        "https://a.example/`id`", 'https://a.example/"', "https://a..b/x", "https://a.example\0/",
        "https://2130706433/x", "https://0x7f.1/x", "https://127.1/x", "https://1.2.3/x",
        "git+https://a.example/x", "git+https://a.example/x@main", f"git+ssh://a/x@{COMMIT}",
        f"git+file:///x@{COMMIT}", f"git+https://a.example/x@{COMMIT[:-1]}",
        f"git+https://a.example/x@--upload-pack=id@{COMMIT} ", "git+https://a.example/x@v1.0",
        "sftp://a.example", "sftp://a.example/", "sftp://a.example/x*", 'sftp://a.example/x"',
        "sftp://a.example/../x", "sftp://a.example/x y", "sftp://-oProxyCommand=id/x",
        "sftp://-a@a.example/x", "sftp://u:pw@a.example/x", "sftp://a.example/a\n!id",
        "path:", "path:x", "path:/", "path:/a/../b", "path:/a b", "path:/a\n", "path:/a//b",
        "path:/$(id)", "folder:", "folder:0", "folder:x", "folder:1/x", "folder:-1",
        "https://a.example/" + "x" * 2000,
    ],
)  # fmt: skip
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_target(text)


@pytest.mark.parametrize(
    ("host", "public"),
    [
        ("example.org", True), ("8.8.8.8", True), ("127.0.0.1", False), ("10.1.2.3", False),
        ("169.254.169.254", False), ("192.168.0.1", False), ("172.31.0.1", False),
        ("100.100.100.200", False), ("168.63.129.16", False), ("224.0.0.1", False),
        ("0.0.0.0", False), ("localhost", False), ("a.localhost", False),
        ("metadata.google.internal", False), ("printer.local", False),
    ],
)  # fmt: skip
def test_private_hosts_are_not_public(host: str, public: bool) -> None:
    assert is_public(host) is public
    refusal = DataRules().refusal(parse_target(f"https://{host}/x"))
    assert (refusal is None) is public


def test_rules_say_what_may_be_fetched() -> None:
    rules = DataRules.read(
        {
            "data_hosts": ["data.lab", "*.store.lab:8443", "old.lab:*"],
            "data_paths": ["/shared/maps"],
        }
    )
    for text, allowed in (
        ("https://data.lab/x", True),
        ("https://data.lab:8443/x", True),  # a public name, as far as is known without a look
        ("https://10.0.0.1/x", False),
        ("sftp://data.lab/x", True),
        ("sftp://data.lab:2222/x", False),
        ("sftp://old.lab:2222/x", True),
        ("sftp://other.lab/x", False),
        ("path:/shared/maps", True),
        ("path:/shared/maps/europe", True),
        ("path:/shared/mapsx", False),
        ("path:/shared", False),
    ):
        assert (rules.refusal(parse_target(text)) is None) is allowed, text


@pytest.mark.parametrize(
    "options",
    [{"data_hosts": "a"}, {"data_hosts": ["a b"]}, {"data_hosts": ["a\n"]}, {"data_hosts": [1]},
     {"data_hosts": ["a:99x"]}, {"data_paths": ["x"]}, {"data_paths": ["/a/../b"]},
     {"data_paths": ["/"]}, {"data_ca_file": "x y"}, {"data_ca_file": 1}],
)  # fmt: skip
def test_rules_that_are_no_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="data_"):
        DataRules.read(options)


def test_what_a_fetch_tells_is_read_with_care() -> None:
    assert parse_fetch("fetching\n") == Fetch(FetchState.FETCHING)
    assert parse_fetch("fetched 12\n") == Fetch(FetchState.FETCHED, 12)
    assert parse_fetch("failed no\x1b[31m such") == Fetch(
        FetchState.FAILED, why="no\ufffd[31m such"
    )
    for garbage in (None, "", "fetched -1", "fetched " + "9" * 30, "done", "fetched 1\nx"):
        assert parse_fetch(garbage) is None, garbage
    assert failed(Fetch(FetchState.FAILED, why="x"), FAILED_CODE) == "x"
    assert failed(Fetch(FetchState.FETCHING), FAILED_CODE)
    assert failed(Fetch(FetchState.FETCHED), FAILED_CODE) is None  # the script said so itself
    assert failed(Fetch(FetchState.FAILED, why="x"), 143) is None


# ---- the program that fetches ----


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    found = Web(tmp_path_factory.mktemp("web"))
    yield found
    found.stop()


@pytest.fixture
def rules(web: Web) -> DataRules:
    return DataRules((web.address,), (), str(web.ca_file))


class Fetched:
    def __init__(self, folder: Path, request: bytes, **environment: str) -> None:
        folder.mkdir(parents=True)
        (folder / TARGET).write_bytes(request)
        path = {"PATH": os.environ["PATH"]}
        done = subprocess.run(
            ["/bin/sh", str(PROGRAM), str(folder)],
            env=path | environment, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        self.code, self.said = done.returncode, done.stderr
        self.told = parse_fetch((folder / FETCHED).read_text())
        self.data = folder / DATA

    @property
    def why(self) -> str:
        """It failed, and left nothing."""
        assert (self.code, self.data.exists()) == (FAILED_CODE, False)
        assert self.told is not None
        assert self.told.state is FetchState.FAILED
        assert self.told.why and self.told.why in self.said
        return self.told.why

    @property
    def files(self) -> dict[str, bytes]:
        assert self.code == 0, self.said
        assert self.told is not None and self.told.state is FetchState.FETCHED
        found = (path for path in self.data.rglob("*") if path.is_file())
        names = {str(path.relative_to(self.data)): path.read_bytes() for path in found}
        return {name: text for name, text in names.items() if not name.startswith(".git/")}


def test_a_file_over_https(web: Web, rules: DataRules, tmp_path: Path) -> None:
    url = web.serve("/a/maps.tif", b"x" * 100_000)
    found = Fetched(tmp_path / "job", rules.request(parse_target(f"{url}?a=1&b=$(id);'")))
    assert found.files == {"maps.tif": b"x" * 100_000}
    assert found.told and found.told.size and found.told.size >= 100_000
    assert not (tmp_path / "job" / "fetch.log").exists()


def test_what_a_server_can_do_wrong_over_https(web: Web, rules: DataRules, tmp_path: Path) -> None:
    web.answers["/cut"] = cut
    for path, words in (("/missing", "404"), ("/cut", "bytes remaining")):
        request = rules.request(parse_target(f"{web.url}{path}"))
        assert words in Fetched(tmp_path / path[1:], request).why
    without = replace(rules, ca_file=None).request(parse_target(f"{web.url}/x"))
    assert "certificate" in Fetched(tmp_path / "ca", without).why


def test_redirects_are_looked_at_one_by_one(web: Web, rules: DataRules, tmp_path: Path) -> None:
    web.serve("/end", b"there")
    leads = {
        "/once": f"{web.url}/end",
        "/relative": "/once",
        "/plain": f"http://{web.address}/end",
        "/file": "file:///etc/passwd",
        "/private": f"https://127.0.0.1:{web.port}/end",
        "/metadata": "https://169.254.169.254/latest",
        "/decimal": "https://2130706433/x",
        "/tricky": f"https://{web.address}@127.0.0.1/end",
        "/odd": f"https://{web.address}\\@127.0.0.1/end",
        "/circle": "/circle",
    }
    for path, place in leads.items():
        web.answers[path] = lambda request, place=place: request.lead(place)  # type: ignore[misc]
    for path in ("/once", "/relative"):
        request = rules.request(parse_target(f"{web.url}{path}"))
        assert Fetched(tmp_path / path[1:], request).files == {path[1:]: b"there"}
    for path, words in (
        ("/plain", "https"), ("/file", "https"), ("/private", "not public"),
        ("/metadata", "not public"), ("/decimal", "not public"), ("/tricky", ""), ("/odd", ""),
        ("/circle", "5 times"),
    ):  # fmt: skip
        web.asked.clear()
        request = rules.request(parse_target(f"{web.url}{path}"))
        assert words in Fetched(tmp_path / path[1:], request).why
        assert set(web.asked) == {path}


def test_a_host_with_a_private_address_is_refused_where_it_is_looked_up(
    web: Web, rules: DataRules, tmp_path: Path
) -> None:
    """Whatever was known of it at the submit."""
    url = web.serve("/x", b"x")
    web.asked.clear()
    request = rules.request(parse_target(url)).replace(web.address.encode() + b"\n", b"")
    assert b"localhost" in request
    assert "not public" in Fetched(tmp_path / "job", request).why
    assert web.asked == []


def test_a_git_repository_at_a_commit(web: Web, rules: DataRules, tmp_path: Path) -> None:
    commits = repository(web.ca_file.parent / "maps.git")
    wanted = {commits[0]: {"number": b"1", "more/file1": b"x"}}
    wanted[commits[1]] = {"number": b"2", "more/file1": b"x", "more/file2": b"x"}
    for commit, files in wanted.items():
        target = parse_target(f"git+{web.url}/git/maps.git@{commit}")
        assert Fetched(tmp_path / commit, rules.request(target)).files == files
    for place, commit, words in (
        ("maps.git", "0" * 40, "0" * 40),
        ("none.git", commits[0], "not found"),
    ):
        target = parse_target(f"git+{web.url}/git/{place}@{commit}")
        assert words in Fetched(tmp_path / place, rules.request(target)).why


def test_a_path_is_linked_where_it_may_be_read(tmp_path: Path) -> None:
    shared, secret = tmp_path / "shared", tmp_path / "secret"
    for folder in (shared / "maps", secret):
        folder.mkdir(parents=True)
        (folder / "x").write_text("x")
    (shared / "out").symlink_to(secret)
    rules = DataRules((), (str(shared),))
    found = Fetched(tmp_path / "job", rules.request(parse_target(f"path:{shared}/maps")))
    assert found.data.is_symlink() and found.files == {"x": b"x"}
    for name, words in (("out", "none of the paths"), ("no", "No such"), ("maps/x", "no folder")):
        request = rules.request(parse_target(f"path:{shared}/{name}"))
        why = Fetched(tmp_path / f"job-{name.replace('/', '-')}", request).why
        assert words in why or "not a folder" in why
    with pytest.raises(ValueError, match="none of the paths"):
        rules.request(parse_target(f"path:{secret}"))


@needs_sshd
def test_files_over_sftp_with_a_key_and_a_known_host(tmp_path: Path) -> None:
    folder = tmp_path / "sshd"
    folder.mkdir()
    sshd = Sshd(folder)
    sshd.start()
    try:
        (tmp_path / "maps/deep").mkdir(parents=True)
        (tmp_path / "maps/deep/x").write_text("x")
        known = folder / "known_hosts"
        known.write_text(f"[localhost]:{sshd.port} {sshd.host_key}\n")
        # The account's own settings are not for tests to change.
        programs = tmp_path / "bin"
        programs.mkdir()
        config = folder / "config"
        config.write_text(f"IdentityFile {sshd.key}\nUserKnownHostsFile {known}\n")
        (programs / "sftp").write_text(f'#!/bin/sh\nexec /usr/bin/sftp -F {config} "$@"\n')
        (programs / "sftp").chmod(0o755)
        path = f"{programs}:{os.environ['PATH']}"
        rules = DataRules((f"localhost:{sshd.port}",))
        place = f"sftp://{sshd.user}@localhost:{sshd.port}{tmp_path}"
        maps = rules.request(parse_target(f"{place}/maps"))
        assert Fetched(tmp_path / "1", maps, PATH=path).files == {"maps/deep/x": b"x"}
        one = rules.request(parse_target(f"{place}/maps/deep/x"))
        assert Fetched(tmp_path / "2", one, PATH=path).files == {"x": b"x"}
        missing = rules.request(parse_target(f"{place}/none"))
        assert "none" in Fetched(tmp_path / "3", missing, PATH=path).why
        known.write_text("")
        assert "verification failed" in Fetched(tmp_path / "4", maps, PATH=path).why
    finally:
        sshd.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on files")
def test_a_disk_that_takes_no_more_is_told(web: Web, rules: DataRules, tmp_path: Path) -> None:
    url = web.serve("/large", b"x" * 3_000_000)
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / TARGET).write_bytes(rules.request(parse_target(url)))
    limited = f"ulimit -f 1000; trap '' XFSZ; exec /bin/sh {PROGRAM} {folder}"
    done = subprocess.run(["/bin/sh", "-c", limited], capture_output=True, check=False)
    assert done.returncode == FAILED_CODE
    told = parse_fetch((folder / FETCHED).read_text())
    assert told is not None and told.why is not None and "riting" in told.why
    assert not (folder / DATA).exists()
