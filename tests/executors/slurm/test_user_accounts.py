"""Each user's jobs under an account of their own, on a real Slurm with three Unix accounts."""

import asyncio
import subprocess
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from queueapi.auth.models import Role
from queueapi.clusters.ssh_keys import SshKey, make_key
from queueapi.executors.accounts import Account, Owner
from queueapi.executors.base import Ending, ExecutorUnavailable, Phase, Run, Stream
from queueapi.executors.slurm import watch
from queueapi.executors.slurm.executor import SlurmExecutor
from tests.controller.serving import Server
from tests.executors.contract import make_run, output_of, until_log, until_phase
from tests.executors.slurm.conftest import cluster_of
from tests.executors.slurm.test_server import Curl, register
from tests.slurm.lab import Lab

ADA, BOB = "qlab2", "qlab3"
New = Callable[..., Awaitable[SlurmExecutor]]
Make = Callable[..., Any]


class Book:
    """Whose accounts runs have, as a server's database has it."""

    def __init__(self) -> None:
        self.stored: dict[int, Account] = {}
        self.runs: dict[str, Owner] = {}
        self.refusals: list[str] = []

    async def owners(self, cluster: str, keys: Collection[str]) -> Mapping[str, Owner]:
        return {key: self.runs[key] for key in keys if key in self.runs}

    async def accounts(self, cluster: str, user_ids: Collection[int]) -> Mapping[int, Account]:
        return {number: self.stored[number] for number in user_ids if number in self.stored}

    async def refused(self, cluster: str, account: Account, why: str) -> None:
        self.refusals.append(why)

    def run_of(self, login: str, script: str, **changes: Any) -> Run:
        """A run of the user whose account is this."""
        [user_id] = [number for number, each in self.stored.items() if each.login == login]
        run = make_run(script, user_id=user_id, **changes)
        self.runs[run.key] = Owner(user_id, login)
        return run


def account(number: int, login: str, key: SshKey) -> Account:
    return Account(number, login, key.fingerprint, key.private)


@pytest.fixture
def book(slurm_lab: Lab) -> Iterator[Book]:
    book = Book()
    for number, login in enumerate((ADA, BOB)):
        key = make_key()
        book.stored[number] = account(number, login, key)
        slurm_lab.let_in(login, key.public)
    yield book
    for login in (ADA, BOB):
        slurm_lab.let_in(login)


@pytest.fixture
def homes(slurm_lab: Lab) -> Iterator[Path]:
    """Where every account may make a folder of its own."""
    folder = slurm_lab.folder / "homes"
    folder.mkdir()
    folder.chmod(0o1777)
    yield folder
    slurm_lab.cancel_all()
    slurm_lab.run("rm", "-rf", str(folder))


@pytest.fixture
async def new_executor(slurm_lab: Lab, homes: Path, book: Book) -> AsyncIterator[New]:
    made: list[SlurmExecutor] = []

    async def make(**changes: Any) -> SlurmExecutor:
        changes = {"user_accounts": True, "root": f"{homes}/%u/qa", **changes}
        executor = SlurmExecutor(cluster_of(slurm_lab, homes, **changes), None, book)
        made.append(executor)
        await executor.start(lambda key: None)
        return executor

    yield make
    for executor in made:
        await executor.close()


async def test_runs_their_files_and_logs_are_of_their_own_account(
    new_executor: New, book: Book, homes: Path, slurm_lab: Lab
) -> None:
    executor = await new_executor()
    look = f"id -un; pwd; ls {homes}/{ADA} {homes}/{BOB} >/dev/null || echo no; echo x >made\n"
    runs = [(login, book.run_of(login, look)) for login in (ADA, BOB, ADA)]
    found = await asyncio.gather(*(output_of(executor, run) for _, run in runs))
    for (login, run), log in zip(runs, found, strict=True):
        folder = homes / login / "qa" / run.key
        assert log == f"{login}\n{folder}/work\nno\n"  # neither reads the other's
        paths = (folder, *folder.rglob("*"), *folder.parents[:2])
        number = int(slurm_lab.run("id", "-u", login).stdout)
        assert {path.stat().st_uid for path in paths} == {number}
        assert (homes / login).stat().st_mode & 0o077 == 0
        assert await executor.read_file(run.key, b"work/made", 0, 10) == b"x\n"
        assert executor.output_path(run.key) == f"{homes}/%u/qa/{run.key}/work"
        # Accounting tells the cluster's login of jobs that are not its own.
        assert ending((await executor.poll([run.key]))[run.key]).cpu_seconds is not None
    for login, run in runs:
        await executor.remove(run.key)
        assert not (homes / login / "qa" / run.key).exists()
    assert book.refusals == []


async def test_one_question_serves_all_accounts_and_a_cancel_is_its_users(
    new_executor: New, book: Book
) -> None:
    executor = await new_executor()
    runs = [book.run_of(login, "sleep 300\n") for login in (ADA, BOB)]
    await asyncio.gather(*(executor.submit(run) for run in runs))
    for run in runs:
        await until_phase(executor, run.key, [Phase.RUNNING])
    before = executor._watch.rounds
    asked: list[str] = []
    run_command = type(executor._remote)._run

    async def counted(self: Any, argv: tuple[str, ...], *rest: Any) -> Any:
        asked.extend(word for word in argv if word in ("squeue", "sacct"))
        return await run_command(self, argv, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(executor._remote), "_run", counted)
        await executor.cancel(runs[0].key)
        ended = (await until_phase(executor, runs[0].key)).ending
    assert ended is not None and ended.reason == "Cancelled"
    assert asked.count("squeue") <= executor._watch.rounds - before + 1
    assert (await executor.poll([runs[1].key]))[runs[1].key].phase is Phase.RUNNING


async def test_a_submission_whose_answer_was_lost_is_adopted_under_its_account(
    new_executor: New, book: Book, homes: Path
) -> None:
    run = book.run_of(ADA, f"echo once >>{homes}/{ADA}/marks; sleep 1\n")
    first = await (await new_executor()).submit(run)
    (homes / ADA / "qa" / run.key / "submitted").unlink()  # as if it had been cut off
    other = await new_executor()
    second = await other.submit(run)
    assert first == second
    await until_phase(other, run.key)
    assert (homes / ADA / "marks").read_text() == "once\n"


async def test_a_new_key_serves_what_runs_already(
    new_executor: New, book: Book, slurm_lab: Lab
) -> None:
    executor = await new_executor()
    run = book.run_of(ADA, "echo first; while [ ! -e go ]; do sleep 0.1; done; echo last\n")
    await executor.submit(run)
    await until_log(executor, run.key, b"first")
    key = make_key()
    slurm_lab.let_in(ADA, key.public)  # and the old one no more
    book.stored[0] = account(0, ADA, key)
    assert await executor.read_log(run.key, Stream.STDOUT, 0, 100) == b"first\n"
    slurm_lab.run("touch", str(await work_of(executor, run) / "go"), user=ADA)
    assert ending(await until_phase(executor, run.key)).exit_code == 0
    assert await executor.read_log(run.key, Stream.STDOUT, 0, 100) == b"first\nlast\n"


async def test_without_its_key_an_end_is_believed_of_slurm_alone(
    new_executor: New, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "AWAY_SECONDS", 1.0)
    executor = await new_executor()
    runs = [book.run_of(login, "sleep 1; exit 7\n") for login in (ADA, BOB)]
    for run in runs:
        await executor.submit(run)
        await until_phase(executor, run.key, [Phase.RUNNING])
    taken = book.stored.pop(0)
    for run in runs:
        found = ending(await until_phase(executor, run.key))
        assert (found.exit_code, found.reason) == (7, None)
    for call in (executor.read_log(runs[0].key, Stream.STDOUT, 0, 1), executor.cancel(runs[0].key)):
        with pytest.raises(ExecutorUnavailable, match="has stored no key for lab"):
            await call
    book.stored[0] = replace(taken, login=BOB)
    with pytest.raises(ExecutorUnavailable, match="is of qlab2 on lab, and its user's key is for"):
        await executor.log_size(runs[0].key, Stream.STDOUT)


async def test_a_key_that_opens_nothing_starts_nothing_and_holds_up_nobody(
    new_executor: New, book: Book, slurm_lab: Lab
) -> None:
    executor = await new_executor()
    slurm_lab.let_in(ADA)
    refused, fine = book.run_of(ADA, "echo never\n"), book.run_of(BOB, "echo fine\n")
    with pytest.raises(ExecutorUnavailable, match="does not accept our key"):
        await executor.submit(refused)
    assert await output_of(executor, fine) == "fine\n"
    assert len(book.refusals) == 1 and "authorized_keys" in book.refusals[0]
    # Whoever names another's account has a connection of their own, which opens nothing.
    book.stored[0] = replace(book.stored[0], login=BOB)
    stolen = make_run("id\n", user_id=0)
    book.runs[stolen.key] = Owner(0, BOB)
    with pytest.raises(ExecutorUnavailable, match="does not accept our key"):
        await executor.submit(stolen)
    wrong = [check for check in await executor.check_account(book.stored[0]) if not check.ok]
    assert [check.name for check in wrong] == ["the connection"]


async def test_a_folder_that_others_could_change_is_not_used(
    new_executor: New, book: Book, homes: Path, slurm_lab: Lab
) -> None:
    executor = await new_executor()
    slurm_lab.run("mkdir", "-p", "-m", "777", f"{homes}/{ADA}/qa", user=BOB)
    slurm_lab.run("chmod", "777", f"{homes}/{ADA}", user=BOB)
    with pytest.raises(ExecutorUnavailable, match="must be a folder of qlab2"):
        await executor.submit(book.run_of(ADA, "true\n"))
    wrong = [check for check in await executor.check_account(book.stored[0]) if not check.ok]
    assert [(check.name, "must be a folder of" in check.found) for check in wrong] == [
        ("the folder for jobs", True)
    ]
    assert [check for check in await executor.check_account(book.stored[1]) if not check.ok] == []


async def test_a_job_that_somebody_made_by_hand_under_the_same_name_is_not_the_run(
    new_executor: New, book: Book, slurm_lab: Lab
) -> None:
    executor = await new_executor()
    run = book.run_of(ADA, "sleep 1; exit 3\n")
    by_hand = ("sbatch", "--parsable", f"--job-name={run.key}", "--output=/dev/null", "--mem=10")
    slurm_lab.run(*by_hand, "--chdir=/tmp", "--wrap=sleep 300", user=BOB)
    await executor.submit(run)
    await executor.submit(book.run_of(BOB, "sleep 1\n"))  # so that it is seen
    assert ending(await until_phase(executor, run.key)).exit_code == 3
    assert slurm_lab.run("squeue", "-h", "-n", run.key, "-o", "1").stdout.strip() == "1"


async def test_what_such_a_cluster_needs_is_tried(new_executor: New, slurm_lab: Lab) -> None:
    executor = await new_executor()
    assert [check for check in await executor.check() if not check.ok] == []
    with slurm_lab.configured("PrivateData=jobs"):
        [wrong] = [check for check in await executor.check() if not check.ok]
    assert wrong.name == "jobs of users" and "PrivateData" in wrong.found
    with pytest.raises(ExecutorUnavailable, match="%u as one of the folders"):
        await new_executor(root=str(slurm_lab.jobs_root))


def ending(seen: Any) -> Ending:
    assert isinstance(seen.ending, Ending)
    return seen.ending


async def work_of(executor: SlurmExecutor, run: Run) -> Path:
    path = executor.output_path(run.key)
    assert path is not None
    return Path(path.replace("%u", ADA))


async def test_from_the_key_to_the_results_through_a_server_that_is_killed(
    server: Server, make_person: Make, slurm_lab: Lab, homes: Path, tmp_path: Path
) -> None:
    boss = Curl(server.url, await make_person(role=Role.ADMIN))
    ann = Curl(server.url, await make_person())
    ben = Curl(server.url, await make_person())
    root = homes / "%u/qa"
    await register(boss, slurm_lab, root, user_accounts=True)
    tested = await boss.ask("/api/clusters/lab/test", "-X", "POST")
    assert tested["ok"], tested
    own = "/api/clusters/lab/account"
    # Ann has a key made, Ben brings his.
    made = await ann.ask(own, "-X", "PUT", body={"login": ADA})
    tested = await ann.ask(f"{own}/test", "-X", "POST")
    assert not tested["ok"] and "authorized_keys" in tested["checks"][0]["found"]
    assert "authorized_keys" in (await ann.ask(own))["problem"]
    slurm_lab.let_in(ADA, made["public_key"])
    path = tmp_path / "key"
    keygen = ("ssh-keygen", "-q", "-t", "ed25519", "-a", "1", "-N", "sesame", "-f", str(path))
    await asyncio.to_thread(subprocess.run, keygen, check=True)
    slurm_lab.let_in(BOB, path.with_suffix(".pub").read_text().strip())
    key = {"login": BOB, "private_key": path.read_text(), "passphrase": "sesame"}
    await ben.ask(own, "-X", "PUT", body=key)
    for person in (ann, ben):
        tested = await person.ask(f"{own}/test", "-X", "POST")
        assert tested["ok"], tested
    script = (
        'cd "$HOME/../../.."; id -un; echo x >>marks; id -un >"$QUEUEAPI_RESULT/me"\n'
        "while [ ! -e go ]; do sleep 0.2; done\n"
    )
    jobs = [(person, await person.submit(script)) for person in (ann, ben, ann)]
    for person, job_id in jobs:
        await person.until(job_id, "running")
    with pytest.raises(AssertionError, match="2 jobs run on lab"):
        await ann(own, "-X", "DELETE")
    server.kill()
    for login in (ADA, BOB):
        slurm_lab.run("touch", f"{homes}/{login}/go")
    await server.start()
    for person, job_id in jobs:
        login = ADA if person is ann else BOB
        job = await person.until(job_id, "completed")
        [attempt] = job["attempts"]
        assert attempt["login"] == login
        assert attempt["output_path"].startswith(f"{homes}/{login}/qa/")
        assert await person(f"/api/jobs/{job_id}/logs") == f"{login}\n"
        assert await person(f"/api/jobs/{job_id}/files/result/me") == f"{login}\n"
        await person(f"/api/jobs/{job_id}/result", "-o", str(tmp_path / "tar"))
        with tarfile.open(tmp_path / "tar") as tar:
            assert tar.getnames() == ["me"]
    assert (homes / ADA / "marks").read_text() == "x\nx\n"
    assert (homes / BOB / "marks").read_text() == "x\n"
    await ann(own, "-X", "DELETE")
    with pytest.raises(AssertionError, match="409"):
        await ann.submit("true\n")
