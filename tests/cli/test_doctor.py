"""The doctor from the command line, against a server that runs."""

import asyncio
import json
import re

import asyncpg

from queueapi.cli.database import _running_url
from tests.cli.server import Cli, Server


def execute(server: Server, statement: str) -> None:
    """In the server's own database."""

    async def run() -> None:
        connection = await asyncpg.connect(_running_url(server.folder / "data"))
        await connection.execute(statement)
        await connection.close()

    asyncio.run(run())


def test_what_proves_that_a_job_ran_once(ada: Cli) -> None:
    job_id = ada.submit("exit 3")
    ada.run("wait", job_id, expect=3)
    told = ada.run("doctor", "job", job_id).stdout
    assert f"Job {job_id} is failed. It was begun once, in attempt 1" in told
    assert re.search(r"start lock: process \d+ on \S+, boot [0-9a-f-]{36}\n", told)
    assert re.search(r"exit_record +cluster +the script ended with 3\n", told)
    proof = ada.json("doctor", "job", job_id)
    assert proof["submission"]["idempotency_key"]  # the client's own
    assert "no job 4711" in ada.run("doctor", "job", 4711, expect=1).stderr


def test_what_is_wrong_is_shown_and_mended(server: Server, root: Cli, ada: Cli) -> None:
    ada.run("wait", ada.submit("true"))
    assert "Nothing is wrong." in root.run("admin", "doctor").stdout
    ada_id = ada.json("whoami")["user"]["id"]
    execute(server, f"UPDATE submitted_counts SET active = active + 1 WHERE user_id = {ada_id}")
    only = ("admin", "doctor", "--check", "submitted-miscounted")
    found = root.run(*only, expect=1)
    assert re.search(
        rf"submitted-miscounted +user {ada_id} .*--repair: It is counted anew", found.stdout
    )
    assert "1 findings, 1 left" in found.stderr
    [finding] = json.loads(root.run(*only, "--repair", "--json").stdout)
    assert finding["mended"]
    assert root.run(*only).stdout == "Nothing is wrong.\n"


def test_what_is_checked_can_be_listed_and_chosen(root: Cli, ada: Cli) -> None:
    listed = root.run("admin", "doctor", "--list").stdout
    assert re.search(r"^attempt-not-charged .* yes ", listed, re.MULTILINE)
    assert "--list" in root.run("admin", "doctor", "--check", "colds", expect=2).stderr
    assert "administrators" in ada.run("admin", "doctor", expect=1).stderr
