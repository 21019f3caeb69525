"""Which machine, whose account, which key: what an SSH connection needs to be told."""

import base64
import getpass
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncssh

from queueapi.executors.base import ExecutorUnavailable

_OWN_KEYS: Final = ("id_ed25519", "id_ecdsa", "id_rsa")  # in ~/.ssh
_FINGERPRINT: Final = re.compile(r"(?:^|\s)(SHA256:[A-Za-z0-9+/]{43})=?(?:\s|$)")
# A host has a key of each kind, and shows the first kind that we ask for.
_KINDS: Final = (
    ("ssh-ed25519",),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    ("rsa-sha2-512", "rsa-sha2-256"),
)


class HostKeyRefused(ExecutorUnavailable):
    """The machine did not prove to be the one whose key an admin accepted."""


class LoginRefused(ExecutorUnavailable):
    """The machine does not let us in with our key, or the key can't be used."""


@dataclass(frozen=True, slots=True)
class SshTarget:
    """Where to log in, and what to trust."""

    host: str  # name or address
    # Fingerprints ("SHA256:...") or whole keys ("ssh-ed25519 AAAA..."), as OpenSSH prints them.
    # Any of them will do; none = nobody has accepted one, so it is refused.
    host_keys: tuple[str, ...]
    user: str | None = None  # None = as the server's own account is named
    key: Path | bytes | None = None  # a private key: where it is, or itself; None = own keys
    port: int = 22
    passphrase: str | None = None
    connect_seconds: float = 20.0  # until the login is done
    io_seconds: float = 30.0  # until one step of a file's transfer is done
    keepalive_seconds: float = 15.0  # between questions whether the other side is there
    keepalive_count: int = 3  # of them that may stay without answer
    max_channels: int = 8  # at once on the connection; sshd's MaxSessions is 10 by default

    def __str__(self) -> str:
        return f"{self.account}@{self.host}:{self.port}"

    @property
    def account(self) -> str:
        """The name to log in with."""
        return self.user or getpass.getuser()


def load_keys(target: SshTarget) -> list[asyncssh.SSHKey]:
    """The private keys to try; blocks for the disk. Raises :class:`LoginRefused`."""
    if target.key is not None:
        return [_load(target.key, target.passphrase)]
    folder = Path.home() / ".ssh"
    found = [folder / name for name in _OWN_KEYS if (folder / name).exists()]
    if not found:
        raise LoginRefused(f"no SSH key is given for {target}, and there is none in {folder}")
    return [_load(path, target.passphrase) for path in found]


def _load(key: Path | bytes, passphrase: str | None) -> asyncssh.SSHKey:
    where = "the SSH key" if isinstance(key, bytes) else f"the SSH key {key}"
    try:
        data = key if isinstance(key, bytes) else key.read_bytes()
        return asyncssh.import_private_key(data, passphrase)
    except OSError as error:
        raise LoginRefused(f"{where} can't be read: {error.strerror}") from error
    except asyncssh.KeyEncryptionError as error:
        raise LoginRefused(f"{where}: its passphrase is wrong") from error
    except (asyncssh.KeyImportError, ValueError) as error:
        if "Passphrase must be specified" in str(error):
            raise LoginRefused(f"{where}: its passphrase is needed") from error
        if "Unable to decrypt" in str(error):  # the same in another format of keys
            raise LoginRefused(f"{where}: its passphrase is wrong") from error
        raise LoginRefused(f"{where} is no private key that can be used: {error}") from error


def accepted_fingerprints(lines: Sequence[str]) -> frozenset[str]:
    """Of fingerprints, of keys, and of lines as ``ssh-keygen -l`` and known_hosts have them.

    Raises :class:`HostKeyRefused` for a line that holds none.
    """
    return frozenset(_fingerprint_in(line.strip()) for line in lines if line.strip())


def _fingerprint_in(line: str) -> str:
    if found := _FINGERPRINT.search(line):
        return found[1]
    words = line.split()
    while len(words) > 2 and not words[0].startswith(("ssh-", "ecdsa-", "sk-")):
        del words[0]  # the names of the host
    try:
        base64.b64decode("".join(words[1:2]), validate=True)
        return asyncssh.import_public_key(" ".join(words[:2])).get_fingerprint("sha256")
    except (asyncssh.KeyImportError, ValueError) as error:
        raise HostKeyRefused(
            f"not the fingerprint of a host key (SHA256:...): {line[:80]!r}"
        ) from error


class HostKeyCheck(asyncssh.SSHClient):
    """Compares the key that the machine shows with those that were accepted."""

    def __init__(self, accepted: frozenset[str]) -> None:
        self._accepted = accepted
        self._shown: dict[str, str] = {}  # algorithms by fingerprint

    def validate_host_public_key(
        self, host: str, addr: str, port: int, key: asyncssh.SSHKey
    ) -> bool:
        """Asked once per connection, before anything is sent."""
        fingerprint = key.get_fingerprint("sha256")
        self._shown[fingerprint] = key.get_algorithm()
        return fingerprint in self._accepted

    def kinds_left(self) -> list[tuple[str, ...]]:
        """Kinds of keys that the machine was not asked for yet, though an accepted key may be
        of that kind: a fingerprint alone does not tell."""
        if not self._accepted:
            return []
        seen = [algorithm.replace("ssh-rsa", "rsa-sha2-512") for algorithm in self._shown.values()]
        return [kind for kind in _KINDS if not any(name in kind for name in seen)]

    def refusal(self, target: SshTarget) -> HostKeyRefused:
        """Why it was refused, for the admin who has to decide."""
        place = f"{target.host}:{target.port}"
        shown = ", ".join(f"{print_} ({kind})" for print_, kind in self._shown.items())
        if not self._accepted:
            return HostKeyRefused(
                f"No host key of {place} is accepted yet, so nothing was sent. It shows {shown}. "
                "If its operators publish this fingerprint, accept it in the cluster's host_keys."
            )
        return HostKeyRefused(
            f"THE HOST KEY OF {place} HAS CHANGED: it shows {shown}; accepted is "
            f"{', '.join(sorted(self._accepted))}. Somebody may be in between, so nothing was "
            "sent. Ask its operators; if they changed it, accept it in the cluster's host_keys."
        )
