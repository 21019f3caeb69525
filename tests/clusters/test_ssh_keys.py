"""SSH keys that people store: those of ssh-keygen, and what only looks like one."""

import base64
import struct
import subprocess
from pathlib import Path

import pytest

from queueapi.clusters.ssh_keys import BadKey, make_key, read_key

KINDS = {
    "ed25519": ("-t", "ed25519"),
    "ecdsa": ("-t", "ecdsa", "-b", "384"),
    "rsa": ("-t", "rsa", "-b", "2048"),
    "pem": ("-t", "rsa", "-b", "2048", "-m", "PEM"),
    "pkcs8": ("-t", "ecdsa", "-m", "PKCS8"),
}


def generate(folder: Path, *options: str, passphrase: str = "") -> Path:
    path = folder / "key"
    subprocess.run(
        ["ssh-keygen", "-q", "-N", passphrase, "-C", "", "-f", path, *options], check=True
    )
    return path


def fingerprint(path: Path) -> str:
    done = subprocess.run(
        ["ssh-keygen", "-l", "-f", path], check=True, capture_output=True, text=True
    )
    return done.stdout.split()[1]


@pytest.mark.parametrize("kind", KINDS)
def test_keys_of_ssh_keygen_are_read(tmp_path: Path, kind: str) -> None:
    path = generate(tmp_path, *KINDS[kind])
    key = read_key(path.read_text(), None)
    assert key.fingerprint == fingerprint(path.with_suffix(".pub"))
    assert key.public == " ".join(path.with_suffix(".pub").read_text().split()[:2])
    assert key.private not in repr(key)


def test_a_passphrase_is_tried(tmp_path: Path) -> None:
    path = generate(tmp_path, "-t", "ed25519", "-a", "1", passphrase="open sesame")
    text = path.read_text()
    assert read_key(text, "open sesame").fingerprint == fingerprint(path.with_suffix(".pub"))
    for passphrase, words in (
        ("open barley", "its passphrase is wrong"),
        (None, "it has a passphrase, and none was given"),
    ):
        with pytest.raises(BadKey, match=words) as error:
            read_key(text, passphrase)
        assert "sesame" not in str(error.value)
    with pytest.raises(BadKey, match="it has no passphrase, and one was given"):
        read_key(make_key().private, "open sesame")


def test_a_key_that_is_made_is_one_for_ssh(tmp_path: Path) -> None:
    key = make_key()
    path = tmp_path / "made"
    path.write_text(key.private)
    path.chmod(0o600)
    done = subprocess.run(
        ["ssh-keygen", "-y", "-f", path], check=True, capture_output=True, text=True
    )
    assert done.stdout.split()[:2] == key.public.split()
    assert read_key(key.private, None) == key
    assert make_key().fingerprint != key.fingerprint


def test_what_is_no_usable_key_is_refused_with_the_reason(tmp_path: Path) -> None:
    small = generate(tmp_path, "-t", "rsa", "-b", "1024", "-m", "PEM").read_text()
    head, tail = "-----BEGIN OPENSSH PRIVATE KEY-----\n", "-----END OPENSSH PRIVATE KEY-----\n"
    rsa = "RSA PRIVATE KEY-----\n"
    lock = f"-----BEGIN {rsa}Proc-Type: 4,ENCRYPTED\n\nAAAA\n-----END {rsa}"
    for text, words in (
        (small, "must have 2048 bits, and it has 1024"),
        (f"{head}AAAA\n{tail}", "can't be read"),
        (f"{head}{tail}", "can't be read"),
        (head, "can't be read"),
        (make_key().private.replace("b3BlbnNzaC1rZXk", "b3BlbnNzaC1rZXo"), "can't be read"),
        (lock, "must be in OpenSSH's own form"),
        ("-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n", "can't be read"),
    ):
        with pytest.raises(BadKey, match=words):
            read_key(text, None)


def test_a_passphrase_that_is_stretched_for_ever_is_not_tried(tmp_path: Path) -> None:
    text = generate(tmp_path, "-t", "ed25519", "-a", "1", passphrase="x").read_text()
    lines = text.strip().split("\n")
    data = base64.b64decode("".join(lines[1:-1]))
    options = data.index(b"bcrypt") + len(b"bcrypt") + 4
    (salt,) = struct.unpack_from(">I", data, options)
    rounds = options + 4 + salt
    assert struct.unpack_from(">I", data, rounds) == (1,)
    heavy = data[:rounds] + struct.pack(">I", 2**31) + data[rounds + 4 :]
    body = base64.b64encode(heavy).decode()
    with pytest.raises(BadKey, match="stretched more than 256 times"):
        read_key("\n".join((lines[0], body, lines[-1])), "x")
