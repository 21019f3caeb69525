"""SSH keys of people: read, made, and known by their fingerprints. Pure but for randomness."""

import base64
import hashlib
import re
import struct
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

_LEAST_RSA: Final = 2048  # bits
_MOST_ROUNDS: Final = 256  # of what makes a key of a passphrase; ssh-keygen takes 16 or 24
_OPENSSH: Final = re.compile(
    r"-----BEGIN OPENSSH PRIVATE KEY-----\s(.*)-----END OPENSSH PRIVATE KEY-----\s*", re.DOTALL
)
_MAGIC: Final = b"openssh-key-v1\0"
_AGAIN: Final = "ssh-keygen -p -f FILE writes it anew in a form that is"

_Private = Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey


class BadKey(ValueError):  # noqa: N818 - it reads as what it is
    """A key that can't be used; the message says why, and holds nothing of it."""


@dataclass(frozen=True, slots=True)
class SshKey:
    """A pair."""

    private: str = field(repr=False)  # its text
    public: str  # as a line of authorized_keys begins
    fingerprint: str  # SHA256:...


def make_key() -> SshKey:
    """A new one, without a passphrase."""
    key = Ed25519PrivateKey.generate()
    text = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    return _pair(text.decode(), key)


def read_key(text: str, passphrase: str | None) -> SshKey:
    """Somebody's. Raises :class:`BadKey`."""
    openssh = _OPENSSH.fullmatch(text.strip())
    if openssh is not None:
        _check_rounds(openssh[1])
    elif passphrase is not None or "ENCRYPTED" in text:
        raise BadKey(f"a key with a passphrase must be in OpenSSH's own form; {_AGAIN}")
    load = load_ssh_private_key if openssh is not None else load_pem_private_key
    try:
        key = load(text.strip().encode() + b"\n", passphrase.encode() if passphrase else None)
    except UnsupportedAlgorithm:
        raise BadKey("it is of a kind that this server can't read") from None
    except (TypeError, ValueError) as error:
        raise BadKey(_why(str(error), passphrase)) from None
    if isinstance(key, RSAPrivateKey) and key.key_size < _LEAST_RSA:
        raise BadKey(f"an RSA key must have {_LEAST_RSA} bits, and it has {key.key_size}")
    if not isinstance(key, _Private):
        raise BadKey("it is no Ed25519, ECDSA or RSA key")
    return _pair(text.strip() + "\n", key)


def _why(words: str, passphrase: str | None) -> str:
    if "not encrypted" in words:
        return "it has no passphrase, and one was given"
    if passphrase is None and ("password-protected" in words or "Password was not given" in words):
        return "it has a passphrase, and none was given"
    return "its passphrase is wrong, or it is damaged" if passphrase else "it can't be read"


def _pair(text: str, key: _Private) -> SshKey:
    try:
        line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    except ValueError:
        raise BadKey("SSH knows no keys of its curve") from None
    digest = hashlib.sha256(base64.b64decode(line.split()[1])).digest()
    return SshKey(text, line, f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}")


def _check_rounds(body: str) -> None:
    """A key may ask for so many that nobody gets done."""
    try:
        data = base64.b64decode("".join(body.split()), validate=True)
        if not data.startswith(_MAGIC):
            raise BadKey("it can't be read")
        rest = data[len(_MAGIC) :]
        for _ in ("cipher", "function"):
            (length,) = struct.unpack_from(">I", rest)
            rest = rest[4 + length :]
        (length,) = struct.unpack_from(">I", rest)
        options = rest[4 : 4 + length]
        if not options:
            return
        (salt,) = struct.unpack_from(">I", options)
        (rounds,) = struct.unpack_from(">I", options, 4 + salt)
    except (struct.error, ValueError):
        raise BadKey("it can't be read") from None
    if rounds > _MOST_ROUNDS:
        raise BadKey(f"its passphrase is stretched more than {_MOST_ROUNDS} times; {_AGAIN}")
