"""The data that a job asks for: what it may name, and how far its fetch is. Pure.

It is fetched where the job runs, by fetch.sh, before its script begins.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

PROGRAM: Final = Path(__file__).with_name("fetch.sh")
# In a job's folder: the program, what it is to fetch, what it tells, and what it has fetched.
FETCH: Final = "fetch"
TARGET: Final = "target"
FETCHED: Final = "fetched"
DATA: Final = "data"
FAILED_CODE: Final = 119  # exit status of fetch.sh, and so of the run
FAILED: Final = "DataFetchFailed"  # the reason of such an end
OPTIONS: Final = ("data_hosts", "data_paths", "data_ca_file")  # of a cluster

# What a document says of the form of a target; parse_target says more, and in words.
FOLDER_FORM: Final = "folder:[1-9][0-9]{0,15}"
FORM: Final = rf"^((git\+)?https://[!-~]+|sftp://[!-~]+/[!-~]+|path:/[!-~]+|{FOLDER_FORM})$"

_MOST: Final = 2000  # characters of a target
_NAME: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST: Final = rf"(?P<host>{_NAME}(?:\.{_NAME})*)(?::(?P<port>[1-9][0-9]{{0,4}}))?"
_SEGMENTS: Final = r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*"
_HTTPS: Final = re.compile(
    rf"https://{_HOST}(?P<path>(?:{_SEGMENTS})?)(?:\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?", re.ASCII
)
_GIT: Final = re.compile(rf"git\+(?P<url>https://{_HOST}{_SEGMENTS})@(?P<commit>[^@/]+)", re.ASCII)
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}", re.ASCII)
_PLAIN: Final = r"(?:/[A-Za-z0-9_.@+=~-]+)+"  # nothing that a shell or sftp would take apart
_SFTP: Final = re.compile(
    rf"sftp://(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]{{0,63}})@)?{_HOST}(?P<path>{_PLAIN})", re.ASCII
)
_PATH: Final = re.compile(rf"path:(?P<path>{_PLAIN})", re.ASCII)
_FOLDER: Final = re.compile(FOLDER_FORM, re.ASCII)
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}", re.ASCII)
_PATTERN: Final = re.compile(r"[a-z0-9*][a-z0-9.*-]{0,252}(?::(?:[1-9][0-9]{0,4}|\*))?", re.ASCII)
_ABSOLUTE: Final = re.compile(_PLAIN, re.ASCII)
_NUMERIC: Final = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)", re.IGNORECASE | re.ASCII)
_LOCAL_NAMES: Final = ("localhost", "*.localhost", "*.local", "*.internal", "*.localdomain")
_METADATA: Final = ipaddress.ip_address("168.63.129.16")  # of one cloud, in a public range
_TOLD: Final = re.compile(r"(fetching|fetched) ?([0-9]{0,18})|failed (.*)", re.ASCII)


class Scheme(StrEnum):
    HTTPS = "https"
    GIT = "git"
    SFTP = "sftp"
    PATH = "path"
    FOLDER = "folder"  # that was uploaded; it is brought to the cluster, and not fetched there


_PORTS: Final = {Scheme.HTTPS: 443, Scheme.GIT: 443, Scheme.SFTP: 22}


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be fetched, taken apart."""

    scheme: Scheme
    place: str  # the URL of https and git; the path of the others; folder:ID
    host: str = ""  # in lower case
    port: int = 0
    user: str = ""  # of sftp
    commit: str = ""  # of git
    name: str = ""  # that a single file gets


def parse_target(text: str) -> Target:
    """Raises ValueError, which says what is wrong."""
    if len(text) > _MOST:
        raise ValueError(f"has more than {_MOST} characters")
    if text.startswith("https://"):
        return _https(text)
    if text.startswith("git+https://"):
        return _git(text)
    if text.startswith("sftp://"):
        found = _match(_SFTP, text, "sftp://[USER@]HOST[:PORT]/PATH, with a plain absolute path")
        path = _plain_path(found["path"])
        return Target(Scheme.SFTP, path, *_address(found, Scheme.SFTP), found["user"] or "")
    if text.startswith("path:"):
        found = _match(_PATH, text, "path:/ABSOLUTE/PATH, of plain characters")
        return Target(Scheme.PATH, _plain_path(found["path"]))
    if text.startswith("folder:"):
        return Target(Scheme.FOLDER, _match(_FOLDER, text, "folder:ID")[0])
    raise ValueError(
        "begins with none of https://, git+https://, sftp://, path: and folder:, which there are"
    )


def _https(text: str) -> Target:
    form = "https://HOST[:PORT]/PATH, without an account, blanks or a # part"
    found = _match(_HTTPS, text, form)
    last = found["path"].rpartition("/")[2]
    name = last if _FILE_NAME.fullmatch(last) else DATA
    return Target(Scheme.HTTPS, text, *_address(found, Scheme.HTTPS), name=name)


def _git(text: str) -> Target:
    found = _match(_GIT, text, "git+https://HOST[:PORT]/REPOSITORY@COMMIT")
    commit = found["commit"].lower()
    if not _COMMIT.fullmatch(commit):
        raise ValueError(
            f"names no commit: give all its 40 digits after the @, for {commit[:50]!r} may be "
            "another one tomorrow"
        )
    return Target(Scheme.GIT, found["url"], *_address(found, Scheme.GIT), commit=commit)


def _match(pattern: re.Pattern[str], text: str, form: str) -> re.Match[str]:
    found = pattern.fullmatch(text)
    if found is None:
        raise ValueError(f"is not of the form {form}")
    return found


def _plain_path(path: str) -> str:
    if {".", ".."} & set(path.split("/")):
        raise ValueError("has a path with . or .. in it")
    return path


def _address(found: re.Match[str], scheme: Scheme) -> tuple[str, int]:
    host, port = found["host"].lower(), int(found["port"] or _PORTS[scheme])
    if port > 65_535:
        raise ValueError(f"names the port {port}, and there are 65535")
    if _NUMERIC.fullmatch(host.rpartition(".")[2]):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise ValueError(f"names {host}, which is neither a name nor an address") from None
    return host, port


@dataclass(frozen=True, slots=True)
class DataRules:
    """What jobs of a cluster may fetch; an administrator says it in the cluster's options.

    From https anything that is public, and what `hosts` name. By sftp only what they name, for it
    is the cluster's account that is let in there. Paths only in `paths`.
    """

    hosts: tuple[str, ...] = ()  # HOST, HOST:PORT or HOST:*; `*` in HOST is any text
    paths: tuple[str, ...] = ()  # these, and what is in them
    ca_file: str | None = None  # there: the certificates that https is checked by

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> "DataRules":
        """From a cluster's options. Raises ValueError: the option, and what is wrong with it."""
        hosts, paths = options.get("data_hosts", []), options.get("data_paths", [])
        ca_file = options.get("data_ca_file")
        if not _are(hosts, _PATTERN):
            raise ValueError("data_hosts must be a list of HOST, HOST:PORT or HOST:*")
        if not _are(paths, _ABSOLUTE) or any(".." in path.split("/") for path in paths):
            raise ValueError("data_paths must be a list of plain absolute paths")
        if ca_file is not None and not _are([ca_file], _ABSOLUTE):
            raise ValueError("data_ca_file must be a plain absolute path")
        return cls(tuple(hosts), tuple(paths), ca_file)

    def refusal(self, target: Target) -> str | None:
        """Why it may not be fetched; None = it may, as far as is known without a look."""
        if target.scheme is Scheme.PATH:
            if not any(f"{target.place}/".startswith(f"{path}/") for path in self.paths):
                return f"{target.place} is in none of the paths that jobs may read there"
            return None
        if target.scheme is Scheme.FOLDER or self._lists(target):
            return None
        if target.scheme is Scheme.SFTP:
            return f"{target.host}:{target.port} is none of the hosts that jobs may use sftp with"
        if not is_public(target.host):
            return f"{target.host} is not a public host, nor one that jobs may fetch from there"
        return None

    def _lists(self, target: Target) -> bool:
        return any(
            fnmatchcase(f"{target.host}:{target.port}", pattern)
            for pattern in self._patterns(_PORTS[target.scheme])
        )

    def _patterns(self, port: int) -> Iterable[str]:
        """With their ports: where none is named, it is the scheme's own."""
        return (host if ":" in host else f"{host}:{port}" for host in self.hosts)

    def request(self, target: Target) -> bytes:
        """What fetch.sh reads. Raises ValueError for what may not be fetched."""
        if (why := self.refusal(target)) is not None:
            raise ValueError(why)
        allowed = self.paths if target.scheme is Scheme.PATH else self._patterns(443)
        lines = (
            target.scheme,
            target.place,
            target.host,
            str(target.port),
            target.commit or target.user or target.name,
            self.ca_file or "",
            *allowed,
        )
        return "".join(f"{line}\n" for line in lines).encode()


def _are(values: Any, pattern: re.Pattern[str]) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, str) and pattern.fullmatch(value) for value in values
    )


def is_public(host: str) -> bool:
    """Whether a name or an IPv4 address may be a public one; fetch.sh looks at what it leads to."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return not any(fnmatchcase(host, name) for name in _LOCAL_NAMES)
    return address.is_global and not address.is_multicast and address != _METADATA


class FetchState(StrEnum):
    FETCHING = "fetching"
    FETCHED = "fetched"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Fetch:
    """How far the fetch of a run's data is."""

    state: FetchState
    size: int | None = None  # bytes so far; None = not known
    why: str | None = None  # it failed, in the words of the program that fetched


def parse_fetch(line: str | None) -> Fetch | None:
    """What fetch.sh tells in one line. None where there is none, or no sense in it."""
    found = _TOLD.fullmatch(line.strip()) if line else None
    if found is None:
        return None
    if found[1] is None:
        words = "".join(c if c.isprintable() else "\ufffd" for c in found[3][:500])
        return Fetch(FetchState.FAILED, why=words)
    return Fetch(FetchState(found[1]), int(found[2]) if found[2] else None)


def failed(fetch: Fetch | None, exit_code: int | None) -> str | None:
    """Why a run that ended so has failed for its data; None = it has not."""
    if fetch is None or exit_code != FAILED_CODE or fetch.state is FetchState.FETCHED:
        return None
    return fetch.why or "what went wrong could not be written down; is the disk full?"
