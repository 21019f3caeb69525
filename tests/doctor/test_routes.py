"""The doctor by HTTP."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from queueapi.auth.models import Role
from queueapi.db.session import Database
from queueapi.doctor.examine import CHECKS
from tests.staging import Caller, Stage, fetch

Make = Callable[..., Any]
PATH = "/api/admin/doctor"


async def test_an_administrator_lists_checks_looks_and_mends(
    stage: Stage, make_person: Make, database: Database
) -> None:
    async with stage(executor="null") as (_, client):
        admin = Caller(client, await make_person(role=Role.ADMIN))
        listed = (await admin.get(PATH)).json()["checks"]
        assert [check["name"] for check in listed] == [check.name for check in CHECKS]
        assert all(check["what"] and check["remedy"] for check in listed)
        await admin.until(await admin.submit(), "completed")
        await fetch(
            database,
            "UPDATE submitted_counts SET active = 9 WHERE user_id = :id",
            id=admin.person.user_id,
        )
        path = f"{PATH}/submitted-miscounted"
        found = (await admin.post(path, json={})).json()
        [finding] = found["findings"]
        assert finding["subject"] == f"user {admin.person.user_id}"
        assert (finding["mendable"], finding["mended"]) == (True, False)
        assert found["looked_at"] >= 1 and found["next"] is None
        [finding] = (await admin.post(path, json={"repair": True})).json()["findings"]
        assert finding["mended"]
        assert (await admin.post(path, json={})).json()["findings"] == []
        past = await admin.post(path, json={"after": 2**53 - 1})
        assert past.json() == {"findings": [], "looked_at": 0, "next": None}


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        (f"{PATH}/no-such-check", {}, 404, "not-found"),
        (f"{PATH}/submitted-miscounted", {"repair": "perhaps"}, 422, "invalid"),
        (f"{PATH}/submitted-miscounted", {"after": -1}, 422, "invalid"),
        (f"{PATH}/submitted-miscounted", {"after": 2**53}, 422, "invalid"),
        (f"{PATH}/submitted-miscounted", {"fix": True}, 422, "invalid"),
        (f"{PATH}/UPPER%00", {}, 422, "invalid"),
    ],
)
async def test_bad_requests_say_what_is_wrong(
    path: str, body: dict[str, Any], status: int, kind: str, stage: Stage, make_person: Make
) -> None:
    async with stage() as (_, client):
        admin = Caller(client, await make_person(role=Role.ADMIN))
        answer = await admin.post(path, json=body)
        assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{kind}")


async def test_it_is_for_administrators(stage: Stage, make_person: Make) -> None:
    async with stage() as (_, client):
        ann = Caller(client, await make_person(manages="default"))
        path = f"{PATH}/submitted-miscounted"
        for asked in (ann.get(PATH), ann.post(path, json={})):
            assert (await asked).status_code == 403
        assert (await client.get(PATH)).status_code == 401
        assert (await client.post(path, json={})).status_code == 401


def test_the_page_tells_of_each_check() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "doctor.md").read_text()
    for check in CHECKS:
        mended = "**mended**: " if check.mends else ""
        assert f"| `{check.name}` | {check.what} | {mended}{check.remedy} |\n" in page
    assert page.count("\n| `") == len(CHECKS)
