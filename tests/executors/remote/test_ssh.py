"""An SSH connection that breaks, stalls, lies or has no room: against a real sshd."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from queueapi.executors.base import ExecutorUnavailable
from queueapi.executors.remote.breaker import Backoff
from queueapi.executors.remote.ssh import SshRemote, command_line
from queueapi.executors.remote.target import (
    HostKeyRefused,
    LoginRefused,
    SshTarget,
    accepted_fingerprints,
)
from tests.executors.remote.sshd import PATIENCE, Sshd, Wire, needs_sshd, running_sshd

pytestmark = needs_sshd
QUICK = Backoff(first=0.05, longest=0.2, jitter=lambda: 0.0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    yield from running_sshd(tmp_path)


@pytest.fixture
async def wire(server: Sshd) -> AsyncIterator[Wire]:
    async with Wire(server.port) as wire:
        yield wire


def target_of(server: Sshd, **changes: object) -> SshTarget:
    target = SshTarget(
        "127.0.0.1", (server.fingerprint,), server.user, server.key, port=server.port
    )
    return replace(target, **changes)  # type: ignore[arg-type]


@pytest.fixture
async def new_remote(server: Sshd) -> AsyncIterator[Callable[..., SshRemote]]:
    made: list[SshRemote] = []

    def make(backoff: Backoff = QUICK, **changes: object) -> SshRemote:
        remote = SshRemote(target_of(server, **changes), backoff)
        made.append(remote)
        return remote

    yield make
    for remote in made:
        await remote.disconnect()


async def said(remote: SshRemote, *words: str) -> str:
    return (await remote.exec(("echo", *words)))[0].text.strip()


async def until_it_answers(remote: SshRemote) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            assert await said(remote, "back") == "back"
            return
        except ExecutorUnavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


# ---- one connection for all ----


async def test_any_number_of_commands_share_a_connection(
    new_remote: Callable[..., SshRemote], wire: Wire
) -> None:
    remote = new_remote(port=wire.port, max_channels=4)
    answers = await asyncio.gather(*(said(remote, str(number)) for number in range(60)))
    assert answers == [str(number) for number in range(60)]
    assert wire.connections == 1


async def test_it_makes_do_with_the_sessions_that_the_server_allows(tmp_path: Path) -> None:
    for server in running_sshd(tmp_path, "MaxSessions 2"):
        remote = SshRemote(target_of(server, max_channels=8), QUICK)
        await remote.write(f"{tmp_path}/file", b"x")
        answers = await asyncio.gather(*(said(remote, str(number)) for number in range(20)))
        assert answers == [str(number) for number in range(20)]
        assert await remote.size(f"{tmp_path}/file") == 1
        await remote.disconnect()


async def test_a_server_with_a_single_session_is_told_apart_from_a_busy_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queueapi.executors.remote.ssh._ROOM_SECONDS", 0.3)
    for server in running_sshd(tmp_path, "MaxSessions 1"):
        remote = SshRemote(target_of(server), QUICK)
        await remote.write(f"{tmp_path}/file", b"x")
        with pytest.raises(ExecutorUnavailable, match="MaxSessions must be 2 or more"):
            await said(remote, "hello")
        await remote.disconnect()


# ---- whom it talks to ----


async def test_without_an_accepted_host_key_nothing_is_sent_and_the_remedy_is_told(
    new_remote: Callable[..., SshRemote], server: Sshd
) -> None:
    remote = new_remote(host_keys=())
    with pytest.raises(HostKeyRefused, match="accept it in the cluster's host_keys") as caught:
        await remote.connect()
    assert server.fingerprint in str(caught.value)
    assert "Accepted publickey" not in (server.folder / "log").read_text()
    trusting = new_remote(host_keys=(server.fingerprint,))
    assert await said(trusting, "in") == "in"


@pytest.mark.parametrize("algorithm", ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256"])
async def test_a_changed_host_key_is_refused_loudly(
    new_remote: Callable[..., SshRemote],
    server: Sshd,
    algorithm: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    remote = new_remote()
    assert await said(remote, "in") == "in"
    before = server.fingerprint
    server.stop()
    server.new_host_key(algorithm)
    server.start()
    deadline = time.monotonic() + PATIENCE
    while True:
        with pytest.raises(ExecutorUnavailable) as caught:
            await remote.exec(("true",))
        if isinstance(caught.value, HostKeyRefused) or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.02)
    assert "HAS CHANGED" in str(caught.value)
    assert before in str(caught.value) and server.fingerprint in str(caught.value)
    assert any(record.levelname == "ERROR" for record in caplog.records)


async def test_any_of_several_accepted_keys_will_do(
    new_remote: Callable[..., SshRemote], server: Sshd
) -> None:
    other = asyncssh.generate_private_key("ssh-rsa").export_public_key().decode()
    named = f"[127.0.0.1]:{server.port},login1 {server.host_key}"
    assert await said(new_remote(host_keys=(other, named)), "in") == "in"
    listed = f"256 {server.fingerprint} login1 (ED25519)"
    assert await said(new_remote(host_keys=(listed,)), "in") == "in"


@pytest.mark.parametrize("algorithm", ["ssh-rsa", "ecdsa-sha2-nistp256"])
async def test_a_fingerprint_of_any_kind_of_key_is_found(tmp_path: Path, algorithm: str) -> None:
    """A host with keys of several kinds shows the accepted one when it is asked for it."""
    second = asyncssh.generate_private_key(algorithm)
    path = tmp_path / "second"
    path.write_bytes(second.export_private_key())
    path.chmod(0o600)
    for server in running_sshd(tmp_path, f"HostKey {path}"):
        accepted = (second.get_fingerprint("sha256"),)
        remote = SshRemote(target_of(server, host_keys=accepted), QUICK)
        assert await said(remote, "in") == "in"
        await remote.disconnect()


@pytest.mark.parametrize("line", ["nonsense", "ssh-ed25519 AAAA", "ssh-ed25519", "SHA256:short"])
def test_what_is_no_host_key_is_refused(line: str) -> None:
    with pytest.raises(HostKeyRefused, match="not the fingerprint"):
        accepted_fingerprints([line])


# ---- how it logs in ----


async def test_a_key_given_as_itself_and_one_with_a_passphrase(
    new_remote: Callable[..., SshRemote], server: Sshd, tmp_path: Path
) -> None:
    assert await said(new_remote(key=server.key.read_bytes()), "in") == "in"
    key = asyncssh.read_private_key(server.key)
    locked = key.export_private_key("pkcs8-pem", passphrase="open sesame")
    assert await said(new_remote(key=locked, passphrase="open sesame"), "in") == "in"
    with pytest.raises(LoginRefused, match="passphrase is needed"):
        await new_remote(key=locked).connect()
    with pytest.raises(LoginRefused, match="passphrase is wrong"):
        await new_remote(key=locked, passphrase="x").connect()


async def test_the_servers_own_key_is_used_when_none_is_given(
    new_remote: Callable[..., SshRemote],
    server: Sshd,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_ed25519").write_bytes(server.key.read_bytes())
    monkeypatch.setenv("HOME", str(tmp_path))
    assert await said(new_remote(key=None, user=None), "in") == "in"


async def test_a_key_that_is_not_accepted_or_no_key_at_all(
    new_remote: Callable[..., SshRemote], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = asyncssh.generate_private_key("ssh-ed25519").export_private_key()
    with pytest.raises(LoginRefused, match="does not accept our key"):
        await new_remote(key=stranger).connect()
    with pytest.raises(LoginRefused, match="no SSH key is given"):
        monkeypatch.setenv("HOME", str(tmp_path))
        await new_remote(key=None).connect()
    with pytest.raises(LoginRefused, match="can't be read"):
        await new_remote(key=tmp_path / "missing").connect()
    with pytest.raises(LoginRefused, match="no private key"):
        await new_remote(key=b"nonsense").connect()


async def test_secrets_are_in_no_error(new_remote: Callable[..., SshRemote]) -> None:
    locked = asyncssh.generate_private_key("ssh-ed25519").export_private_key(
        "pkcs8-pem", passphrase="x"
    )
    with pytest.raises(LoginRefused) as caught:
        await new_remote(key=locked, passphrase="hunter2").connect()
    assert "hunter2" not in str(caught.value) and "PRIVATE" not in str(caught.value)


# ---- when it breaks ----


async def test_a_connection_that_was_cut_is_made_anew(
    new_remote: Callable[..., SshRemote], server: Sshd, tmp_path: Path
) -> None:
    remote = new_remote()
    await remote.write(f"{tmp_path}/file", b"x")
    for _ in range(3):
        server.kill_connections()
        await until_it_answers(remote)
        assert await remote.read(f"{tmp_path}/file", 0, 10) == b"x"


async def test_an_answer_that_was_cut_off_is_no_answer(
    new_remote: Callable[..., SshRemote], wire: Wire
) -> None:
    remote = new_remote(port=wire.port)
    await remote.connect()
    running = asyncio.create_task(remote.exec(("sh", "-c", "echo part; sleep 60")))
    await asyncio.sleep(0.2)
    wire.cut()
    with pytest.raises(ExecutorUnavailable, match="broke during sh"):
        await running


async def test_a_cut_at_any_point_is_survived(
    new_remote: Callable[..., SshRemote], wire: Wire, tmp_path: Path
) -> None:
    remote = new_remote(port=wire.port)
    for number, after in enumerate((1, 200, 1500, 2500, 3500, 5000, 9000, 40_000, 200_000)):
        path = tmp_path / str(number)
        wire.cut_after = after
        data = os.urandom(300_000)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                await remote.write(str(path), data)
                break
            except ExecutorUnavailable:
                assert not path.exists() or path.read_bytes() == data
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
        assert path.read_bytes() == data
    assert wire.connections > 5


async def test_a_stalled_connection_is_noticed_by_its_keep_alive(
    new_remote: Callable[..., SshRemote], wire: Wire
) -> None:
    remote = new_remote(port=wire.port, keepalive_seconds=0.1, keepalive_count=3)
    assert await said(remote, "in") == "in"
    wire.stall()
    with pytest.raises(ExecutorUnavailable):
        await remote.exec(("echo", "lost"), seconds=60)
    wire.flow()
    await until_it_answers(remote)


async def test_a_stalled_transfer_and_a_stalled_login_are_given_up(
    new_remote: Callable[..., SshRemote], wire: Wire, tmp_path: Path
) -> None:
    remote = new_remote(port=wire.port, io_seconds=0.3, connect_seconds=0.5)
    await until_it_answers(remote)
    await remote.write(f"{tmp_path}/file", b"x")
    wire.stall()
    with pytest.raises(ExecutorUnavailable, match=r"no answer within 0.3 s"):
        await remote.read(f"{tmp_path}/file", 0, 1)
    wire.cut()
    with pytest.raises(ExecutorUnavailable):
        await remote.exec(("true",))
        await remote.exec(("true",))


async def test_while_it_is_away_callers_are_told_at_once_and_one_tries(
    new_remote: Callable[..., SshRemote], wire: Wire
) -> None:
    remote = new_remote(Backoff(first=0.5, longest=0.5, jitter=lambda: 0.0), port=wire.port)
    wire.refuses = True
    with pytest.raises(ExecutorUnavailable):
        await remote.exec(("true",))
    assert wire.connections == 1
    began = time.monotonic()
    for _ in range(50):
        with pytest.raises(ExecutorUnavailable, match="is away"):
            await remote.exec(("true",))
    if time.monotonic() - began < 0.4:  # else the machine slept through the delay
        assert wire.connections == 1
    await asyncio.sleep(0.6)
    wire.refuses = False
    results = await asyncio.gather(
        *(remote.exec(("true",)) for _ in range(10)), return_exceptions=True
    )
    assert wire.connections == 2
    assert any(not isinstance(result, BaseException) for result in results)
    assert all(
        not isinstance(result, BaseException) or isinstance(result, ExecutorUnavailable)
        for result in results
    )
    assert await said(remote, "in") == "in"


async def test_a_server_that_is_not_there(new_remote: Callable[..., SshRemote]) -> None:
    remote = new_remote(host="127.0.0.1", port=1)
    with pytest.raises(ExecutorUnavailable, match=r"127\.0\.0\.1:1"):
        await remote.exec(("true",))
    with pytest.raises(ExecutorUnavailable, match=r"no-such-host\.invalid"):
        await new_remote(host="no-such-host.invalid").exec(("true",))


async def test_a_cancelled_caller_gives_its_channel_back(
    new_remote: Callable[..., SshRemote],
) -> None:
    remote = new_remote(max_channels=2)
    await remote.connect()
    for _ in range(5):
        task = asyncio.create_task(remote.exec(("sleep", "60")))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert await said(remote, "free") == "free"


def test_words_are_quoted_for_the_shell_on_the_other_side() -> None:
    line = command_line(("echo", "a b", "$(x)"), {"A": "1 2"})
    assert line == "env 'A=1 2' echo 'a b' '$(x)'"
