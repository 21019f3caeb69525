"""Schemathesis, every check over the whole document, on a server that runs nothing.

FUZZ_SEED and FUZZ_EXAMPLES search elsewhere and deeper.
"""

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.external.conftest import HERE, PASSWORD, ROOT, Account, Server, register

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
SEED = os.environ.get("FUZZ_SEED", "1")
EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "6")
DEFAULT_GROUP = 1
# An account's password can't be known to who makes up passwords; tests/auth changes some. Where a
# run ends as it begins no job can be suspended; tests/jobs/test_suspension.py and the Postman
# collection suspend jobs that do run.
# A host's name can't be known, and the one there is serves; tests/servers gives hosts up.
# By then many a job has ended that was to be cancelled; tests/jobs cancels all kinds.
# What runs nothing leaves no files; tests/jobs/test_files.py reads some.
UNREACHABLE = {"change_password", "suspend_job", "resume_job", "change_host", "cancel_job"}
UNREACHABLE |= {"list_job_files", "get_job_file", "get_job_result"}
# Accounts on clusters need one that is reached by SSH; tests/clusters store some.
UNREACHABLE |= {f"{verb}_cluster_account" for verb in ("get", "store", "remove", "test")}
UNREACHABLE |= {"refresh_login"}  # takes what a login gave; tests/auth refresh some
# What is well-formed is so for everybody; as an administrator most of it comes further, too.
NO_COVERAGE = "\n[phases.coverage]\nenabled = false\n"

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True, slots=True)
class Run:
    exit_code: int
    report: str
    statuses: Mapping[str, set[int]]  # by operation id


def login(account: Account) -> dict[str, Any]:
    """How to log in, in the words of Web Fuzzing Commons."""
    return {
        "name": account.email.partition("@")[0],
        "loginEndpointAuth": {
            "endpoint": "/api/auth/login",
            "verb": "POST",
            "contentType": "application/json",
            "payloadUserPwd": {
                "usernameField": "email",
                "username": account.email,
                "passwordField": "password",
                "password": PASSWORD,
            },
            "token": {
                "extractFrom": "body",
                "extractSelector": "/token",
                "sendIn": "header",
                "sendName": "Authorization",
                "sendTemplate": "Bearer {token}",
            },
        },
    }


def fuzz(server: Server, user: str, folder: Path, environment: Mapping[str, str]) -> Run:
    """Run all phases as `user`. It logs in anew whenever its token stops working."""
    config = folder / "schemathesis.toml"
    of_user = f'\n[auth.wfc]\npath = "{folder}/auth.json"\nuser = "{user}"\n'
    if user == "ordinary":
        of_user += f'peers = ["ordinary", "other"]\n{NO_COVERAGE}'
    config.write_text((HERE / "schemathesis.toml").read_text() + of_user)
    options = {
        "--seed": SEED,
        "--max-examples": EXAMPLES,
        "--workers": "1",
        "--report": "har",
        "--report-har-path": str(folder / "all.har"),
    }
    words = [word for option in options.items() for word in option]
    run = subprocess.run(
        [
            str(SCHEMATHESIS),
            "--config-file",
            str(config),
            "run",
            f"{server.url}/openapi.json",
            *words,
        ],
        cwd=folder,
        env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Run(run.returncode, run.stdout, statuses(server, folder / "all.har"))


def statuses(server: Server, har: Path) -> Mapping[str, set[int]]:
    """Which statuses each operation answered with."""
    patterns = {}
    for path, item in httpx.get(f"{server.url}/openapi.json").json()["paths"].items():
        for method, operation in item.items():
            pattern = re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(path))
            patterns[method.upper(), pattern] = operation["operationId"]
    found: defaultdict[str, set[int]] = defaultdict(set)
    for entry in json.loads(har.read_text())["log"]["entries"]:
        path = urlsplit(entry["request"]["url"]).path
        for (method, pattern), operation_id in patterns.items():
            if entry["request"]["method"] == method and re.fullmatch(pattern, path):
                found[operation_id].add(entry["response"]["status"])
    return found


@pytest.fixture(scope="module")
def runs(null_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    """The runs by user. One after the other: an administrator may change what the others see."""
    ordinary = register(null_server, "ordinary@lab.example")
    other = register(null_server, "other@lab.example")
    admin = register(null_server, "admin@lab.example", admin=True)
    spare = register(null_server, "spare@lab.example")
    group = httpx.post(
        f"{null_server.url}/api/groups", json={"name": "spare"}, headers=admin.headers
    )
    queue = {"name": "spare", "max_estimated_hours": 1}
    httpx.post(f"{null_server.url}/api/queues", json=queue, headers=admin.headers)
    closed: dict[str, Any] = {"name": "closed", "max_estimated_hours": 8760}
    closed |= {"state": "down", "is_routed": False}
    httpx.post(f"{null_server.url}/api/queues", json=closed, headers=admin.headers)
    array = {"script": "true", "array": "0-2"}
    submitted = httpx.post(f"{null_server.url}/api/jobs", json=array, headers=ordinary.headers)
    once = httpx.post(
        f"{null_server.url}/api/jobs", json={"script": "true"}, headers=ordinary.headers
    )
    environment = {
        "SCHEMATHESIS_HOOKS": "tests.external.fuzz_hooks",
        "FUZZ_KEPT_USERS": ",".join(str(a.user_id) for a in (ordinary, other, admin)),
        "FUZZ_KEPT_GROUP": str(DEFAULT_GROUP),
        "FUZZ_SPARE_USER": str(spare.user_id),
        "FUZZ_SPARE_GROUP": str(group.json()["id"]),
        "FUZZ_SPARE_ARRAY": str(submitted.json()["id"]),
        "FUZZ_SPARE_ENDED": str(once.json()["id"]),
        "FUZZ_ADMIN_TOKEN": admin.token,
    }
    done = {}
    for user in ("ordinary", "admin"):
        folder = tmp_path_factory.mktemp(user)
        (folder / "auth.json").write_text(
            json.dumps({"auth": [login(account) for account in (ordinary, other, admin)]})
        )
        done[user] = fuzz(null_server, user, folder, environment)
    yield done


@pytest.mark.parametrize("user", ["ordinary", "admin"])
def test_every_check_holds_over_the_whole_document(runs: dict[str, Run], user: str) -> None:
    run = runs[user]
    assert run.exit_code == 0, run.report
    assert not {s for answers in run.statuses.values() for s in answers if s >= 500}


def test_every_operation_did_its_work_at_least_once(runs: dict[str, Run]) -> None:
    worked = {
        operation
        for run in runs.values()
        for operation, answers in run.statuses.items()
        if any(200 <= status < 300 for status in answers)
    }
    asked = runs["ordinary"].statuses.keys() | runs["admin"].statuses.keys()
    assert asked - worked <= UNREACHABLE


def test_the_server_has_met_nothing_that_it_did_not_foresee(
    runs: dict[str, Run], null_server: Server
) -> None:
    assert null_server.faults() == []
    assert httpx.get(f"{null_server.url}/health/ready").status_code == 200
