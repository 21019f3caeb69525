"""Uploading, reading and deleting folders, and jobs that name them."""

import asyncio
import os
import subprocess
import tracemalloc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from queueapi.auth.models import Role
from queueapi.db.session import Database
from queueapi.executors.base import LaunchRefused, Run
from queueapi.files import receiving
from queueapi.files.stored import StoredContents
from tests.files.archives import link, member, tar_gz, tar_of, zip_of
from tests.staging import NODE, Caller, Json, Puppet, Stage, fetch, listening, until

Make = Callable[..., Any]
GZIP = {"Content-Type": "application/gzip"}
FILES = {"main.py": "print(1)\n", "lib/a.py": "a = 1\n"}


async def send(caller: Caller, data: bytes, **params: Any) -> httpx.Response:
    return await caller.post("/api/folders", content=data, headers=GZIP, params=params)


async def folder(caller: Caller, files: dict[str, Any] | None = None, **params: Any) -> Json:
    response = await send(caller, tar_gz(files or FILES), **params)
    assert response.status_code in (200, 201), response.text
    found: Json = response.json()
    return found


def unpacked(data: bytes, to: Path) -> dict[str, bytes]:
    """The files that a cluster makes of an archive."""
    to.mkdir()
    subprocess.run(["tar", "-xz", "-C", str(to)], input=data, check=True)
    return {str(p.relative_to(to)): p.read_bytes() for p in to.rglob("*") if p.is_file()}


async def test_an_upload_is_read_back_with_its_files(
    stage: Stage, make_person: Make, database: Database, tmp_path: Path
) -> None:
    async with stage() as (_, client):
        ann = Caller(client, await make_person())
        sent = tar_of(
            member("run", b"#!/bin/sh\n", mode=0o755), member("d/x", b"12"), link("l", "d/x")
        )
        response = await send(ann, sent, name="tools")
        assert response.status_code == 201, response.text
        made = response.json()
        assert response.headers["location"] == f"/api/folders/{made['id']}"
        assert made["ref"] == f"folder:{made['id']}"
        assert (made["name"], made["user"], made["group"]) == ("tools", ann.person.email, None)
        assert (made["files"], made["size"]) == (2, 12)
        assert (made["used_at"], made["active_jobs"]) == (None, 0)
        detail = (await ann.get(f"/api/folders/{made['id']}")).json()
        kinds = {e["path"]: (e["kind"], e["size"], e["executable"]) for e in detail["entries"]}
        assert kinds == {
            "d": ("folder", None, None),
            "d/x": ("file", 2, False),
            "l": ("link", None, None),
            "run": ("file", 10, True),
        }
        assert {e["path"]: e["target"] for e in detail["entries"]}["l"] == "d/x"
        kept = [part async for part in StoredContents(database).archive(made["digest"])]
        found = unpacked(b"".join(kept), tmp_path / "got")
        assert found == {"d/x": b"12", "l": b"12", "run": b"#!/bin/sh\n"}


async def test_the_same_files_again_are_the_same_folder(
    stage: Stage, make_person: Make, database: Database
) -> None:
    async with stage() as (_, client):
        ann, bob = Caller(client, await make_person()), Caller(client, await make_person())
        first = await send(ann, tar_gz(FILES), name="one")
        again = await send(ann, zip_of(FILES.items()))
        other = await send(bob, tar_gz(FILES))
        assert [r.status_code for r in (first, again, other)] == [201, 200, 201]
        assert first.json()["id"] == again.json()["id"] != other.json()["id"]
        assert again.json()["name"] == "one"
        assert again.json()["uploaded_at"] > first.json()["uploaded_at"]
        assert first.json()["digest"] == other.json()["digest"]
        assert len(await fetch(database, "SELECT digest FROM contents")) == 1
        changed = await folder(ann, FILES | {"main.py": "print(2)\n"})
        assert changed["id"] not in (first.json()["id"], other.json()["id"])


async def test_who_sends_the_same_at_the_same_time_gets_one_folder(
    stage: Stage, make_person: Make, database: Database
) -> None:
    async with stage() as (_, client):
        people = [Caller(client, await make_person()) for _ in range(3)]
        data = tar_gz({"noise": os.urandom(3 << 20)})
        answers = await asyncio.gather(*(send(p, data) for p in [*people, people[0], people[1]]))
        assert sorted(a.status_code for a in answers) == [200, 200, 201, 201, 201]
        assert len({a.json()["id"] for a in answers}) == 3
        [row] = await fetch(
            database, "SELECT chunks, (SELECT count(*) FROM content_chunks) AS kept FROM contents"
        )
        assert row.chunks == row.kept == 4


async def test_pages_show_ones_own_newest_first(stage: Stage, make_person: Make) -> None:
    async with stage() as (_, client):
        ann, bob = Caller(client, await make_person()), Caller(client, await make_person())
        made = [(await folder(ann, {f"f{n}": "x"}))["id"] for n in range(5)]
        theirs = await folder(bob)
        page = (await ann.get("/api/folders", params={"limit": 3})).json()
        assert [item["id"] for item in page["items"]] == made[:1:-1]
        rest = (await ann.get("/api/folders", params={"cursor": page["next"]})).json()
        assert [item["id"] for item in rest["items"]] == made[1::-1]
        assert rest["next"] is None
        by_digest = {"digest": theirs["digest"]}
        assert (await ann.get("/api/folders", params=by_digest)).json()["items"] == []
        [mine] = (await bob.get("/api/folders", params=by_digest)).json()["items"]
        assert mine["id"] == theirs["id"]
        for bad in ({"digest": "x"}, {"cursor": "x"}, {"limit": "0"}, {"what": "1"}):
            assert (await ann.get("/api/folders", params=bad)).status_code == 422


async def test_others_do_not_see_it_and_administrators_do(stage: Stage, make_person: Make) -> None:
    async with stage() as (_, client):
        ann, bob = Caller(client, await make_person()), Caller(client, await make_person())
        boss = Caller(client, await make_person(role=Role.ADMIN))
        path = f"/api/folders/{(await folder(ann))['id']}"
        assert (await bob.get(path)).status_code == 404
        assert (await bob.ask("DELETE", path)).status_code == 404
        assert (await boss.get(path)).status_code == 200
        assert len((await boss.get("/api/folders")).json()["items"]) == 1
        assert (await client.get(path)).status_code == 401
        assert (await client.post("/api/folders", content=b"x", headers=GZIP)).status_code == 401
        assert (await boss.ask("DELETE", path)).status_code == 204
        assert (await ann.get(path)).status_code == 404


async def test_members_of_a_group_use_what_was_sent_for_it(
    stage: Stage, make_person: Make, database: Database
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet) as (_, client):
        ann, bob = Caller(client, await make_person()), Caller(client, await make_person())
        eve = Caller(client, await make_person(group="other"))
        head = Caller(client, await make_person(manages="default"))
        made = await folder(ann, group="default")
        assert made["group"] == "default"
        path, use = f"/api/folders/{made['id']}", {"executable": made["ref"]}
        assert (await folder(ann))["id"] != made["id"]  # that one is hers alone
        for caller, status in ((bob, 200), (head, 200), (eve, 404)):
            assert (await caller.get(path)).status_code == status
        await bob.submit(**use)
        refused = await eve.post("/api/jobs", json={"script": "x"} | use)
        assert refused.status_code == 404
        assert refused.json()["errors"][0]["pointer"] == "/executable"
        assert (await bob.ask("DELETE", path)).status_code == 403
        assert (await head.ask("DELETE", path)).status_code == 409  # a job names it
        not_in = await send(ann, tar_gz(FILES), group="other")
        assert not_in.status_code == 404
        assert not_in.json()["errors"][0]["pointer"] == "group"


HOSTILE = {
    "../x": tar_of(member("../x", b"")),
    "/etc/passwd": tar_of(member("/etc/passwd", b"")),
    "l": tar_of(member("f", b""), link("l", "../../etc/shadow")),
    "a?b": tar_of(member("a\udcffb", b"")),
    "a\x07b": tar_of(member("a\x07b", b"")),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_archive_is_refused_by_the_name_in_it_and_leaves_nothing(
    stage: Stage, make_person: Make, database: Database, data_dir: Path, name: str
) -> None:
    async with stage() as (_, client):
        response = await send(Caller(client, await make_person()), HOSTILE[name])
        assert response.status_code == 422
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["errors"][0]["pointer"] == name
        assert await fetch(database, "SELECT digest FROM contents") == []
        assert list((data_dir / "uploads").iterdir()) == []


async def test_bodies_that_are_no_archives_are_refused(stage: Stage, make_person: Make) -> None:
    async with stage(max_upload_mb=1, max_body_bytes=4096) as (_, client):
        ann = Caller(client, await make_person())
        for data in (b"", b"hello", tar_gz(FILES)[:-9], b"PK\x03\x04" + bytes(99), bytes(10240)):
            response = await send(ann, data)
            assert response.status_code == 422, (data, response.text)
        for kind in ("application/json", "multipart/form-data; boundary=x", "", "text/plain"):
            response = await ann.post(
                "/api/folders", content=tar_gz(FILES), headers={"Content-Type": kind}
            )
            assert response.status_code == 415, kind
            assert "application/gzip" in response.json()["detail"]
        encoded = await ann.post(
            "/api/folders", content=tar_gz(FILES), headers=GZIP | {"Content-Encoding": "gzip"}
        )
        assert encoded.status_code == 415
        # It has a limit of its own, above the one for other bodies.
        assert (await send(ann, tar_gz({"f": os.urandom(1 << 19)}))).status_code == 201
        assert (await send(ann, tar_gz({"f": os.urandom(1 << 20)}))).status_code == 413

        async def unmeasured() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield bytes(1 << 16)

        assert (
            await ann.post("/api/folders", content=unmeasured(), headers=GZIP)
        ).status_code == 413
        assert (await ann.post("/api/jobs", json={"script": "x" * 5000})).status_code == 413


async def test_a_user_may_have_so_much_and_the_same_again_is_no_more(
    stage: Stage, make_person: Make
) -> None:
    async with stage(max_folders_mb_per_user=2) as (_, client):
        ann, bob = Caller(client, await make_person()), Caller(client, await make_person())
        first = await folder(ann, {"f": bytes(3 << 19)})
        refused = await send(ann, tar_gz({"g": bytes(1 << 20)}))
        assert refused.status_code == 403
        document = refused.json()
        assert document["type"] == "/problems/limit-exceeded"
        assert (document["limit"], document["used"], document["requested"]) == (2, 1.5, 1)
        assert (await folder(ann, {"f": bytes(3 << 19)}))["id"] == first["id"]
        await folder(bob, {"g": bytes(1 << 20)})
        await ann.ask("DELETE", f"/api/folders/{first['id']}")
        await folder(ann, {"g": bytes(1 << 20)})


async def test_an_upload_of_any_size_takes_the_same_memory(
    stage: Stage, make_person: Make, database: Database
) -> None:
    async with stage() as (_, client):
        ann = Caller(client, await make_person())
        noise = os.urandom(1 << 20)
        whole = tar_of(*(member(f"f{n}", noise[n:]) for n in range(40)))

        async def parts() -> AsyncIterator[bytes]:
            for at in range(0, len(whole), 1 << 16):
                yield whole[at : at + (1 << 16)]

        tracemalloc.start()
        response = await ann.post("/api/folders", content=parts(), headers=GZIP)
        peak = tracemalloc.get_traced_memory()[1]
        read = StoredContents(database).archive(response.json()["digest"])
        tracemalloc.reset_peak()
        size = sum([len(part) async for part in read])
        peaks = (peak, tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert response.status_code == 201
        assert size > 35 << 20
        assert max(peaks) < 16 << 20


async def test_an_upload_that_is_cut_leaves_nothing(
    stage: Stage, make_person: Make, database: Database, data_dir: Path
) -> None:
    async with stage() as (app, client), listening(app) as address:
        ann = await make_person()
        host, port = address.split(":")
        data = tar_gz({"noise": os.urandom(1 << 20)})
        _reader, writer = await asyncio.open_connection(host, int(port))
        head = (
            f"POST /api/folders HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n"
            f"Authorization: Bearer {ann.token}\r\nContent-Type: application/gzip\r\n\r\n"
        )
        writer.write(head.encode() + data[: len(data) // 2])
        await writer.drain()
        uploads = data_dir / "uploads"
        await until(lambda: uploads.exists() and any(uploads.iterdir()), "it has begun")
        writer.close()
        await until(lambda: not any(uploads.iterdir()), "it is gone")
        assert await fetch(database, "SELECT digest FROM contents") == []
        response = await send(Caller(client, ann), data)  # and it can be sent again
        assert response.status_code == 201


async def test_an_upload_that_stands_still_is_given_up(
    stage: Stage, make_person: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "_SILENT_SECONDS", 0.1)
    async with stage() as (_, client):

        async def stalling() -> AsyncIterator[bytes]:
            yield tar_gz(FILES)[:50]
            await asyncio.sleep(30)

        ann = Caller(client, await make_person())
        response = await ann.post("/api/folders", content=stalling(), headers=GZIP)
        assert response.status_code == 400
        assert "Nothing of the upload came" in response.json()["detail"]


async def test_nobody_may_have_many_uploads_under_way(stage: Stage, make_person: Make) -> None:
    async with stage() as (_, client):
        go_on = asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield tar_gz(FILES)
            await go_on.wait()

        ann, bob = Caller(client, await make_person()), Caller(client, await make_person())
        posts = [
            asyncio.create_task(ann.post("/api/folders", content=slow(), headers=GZIP))
            for _ in range(5)
        ]
        done, waiting = await asyncio.wait(posts, return_when=asyncio.FIRST_COMPLETED)
        assert [post.result().status_code for post in done] == [429]
        assert (await send(bob, tar_gz(FILES))).status_code == 201
        go_on.set()
        assert sorted([(await post).status_code for post in waiting]) == [200, 200, 200, 201]
        assert (await send(ann, tar_gz(FILES))).status_code == 200


async def test_what_a_crash_left_is_swept_away(
    stage: Stage, make_person: Make, data_dir: Path
) -> None:
    uploads = data_dir / "uploads"
    (uploads / "old").mkdir(parents=True)
    (uploads / "old/sent").write_bytes(b"x")
    (uploads / "new").mkdir()
    os.utime(uploads / "old", (1, 1))
    async with stage() as (_, client):
        await folder(Caller(client, await make_person()))
    assert [path.name for path in uploads.iterdir()] == ["new"]


async def test_a_full_disk_is_no_fault_of_the_archive(
    stage: Stage, make_person: Make, data_dir: Path
) -> None:
    (data_dir / "uploads").write_text("where a folder should be")
    async with stage() as (_, client):
        response = await send(Caller(client, await make_person()), tar_gz(FILES))
        assert response.status_code == 503
        assert "no place for the upload" in response.json()["detail"]
        assert response.headers["retry-after"] == "60"


async def test_a_job_brings_its_folder_to_the_cluster(stage: Stage, make_person: Make) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet) as (_, client):
        ann = Caller(client, await make_person())
        made = await folder(ann)
        response = await ann.post("/api/jobs", json={"script": "x", "executable": made["ref"]})
        assert response.json()["executable"] == made["ref"]
        job_id = response.json()["id"]
        run: Run = puppet.runs[await puppet.launched(job_id)]
        assert run.executable == made["digest"]
        assert (await ann.job(job_id))["executable"] == made["ref"]
        found = (await ann.get(f"/api/folders/{made['id']}")).json()
        assert (found["active_jobs"], found["used_at"]) == (
            1, response.json()["created_at"],
        )  # fmt: skip
        await ann.submit(executable=made["ref"], array="0-1")
        await until(lambda: len(puppet.runs) == 3)
        assert {r.executable for r in puppet.runs.values()} == {made["digest"]}
        assert (await ann.get(f"/api/folders/{made['id']}")).json()["active_jobs"] == 2
        other = await ann.submit()
        assert puppet.runs[await puppet.launched(other)].executable is None


async def test_a_job_may_not_name_what_is_not_there(stage: Stage, make_person: Make) -> None:
    async with stage() as (_, client):
        ann, bob = Caller(client, await make_person()), Caller(client, await make_person())
        theirs = await folder(bob)
        for ref in ("folder:999999999", theirs["ref"], f"folder:{2**53}"):
            for path, body in (
                ("/api/jobs", {"script": "x", "executable": ref}),
                ("/api/jobs/preview", {"script": "x", "executable": ref}),
            ):
                response = await ann.post(path, json=body)
                found = response.json()
                problem = found["problem"] if path.endswith("preview") else found
                assert problem["status"] == 404, response.text
                assert problem["errors"][0]["pointer"] == "/executable"
        batch = {"jobs": [{"script": "x"}, {"script": "x", "executable": theirs["ref"]}]}
        response = await ann.post("/api/jobs/batch", json=batch)
        assert response.json()["errors"][0]["pointer"] == "/jobs/1/executable"
        for ref in (
            "17",
            "folder:",
            "folder:0",
            "folder:01",
            "folder:1 ",
            "folder:-1",
            "/x",
            17,
            "",
        ):
            response = await ann.post("/api/jobs", json={"script": "x", "executable": ref})
            assert response.status_code == 422, ref
            assert response.json()["errors"][0]["pointer"] == "/executable"


async def test_a_folder_that_a_job_needs_stays(
    stage: Stage, make_person: Make, database: Database
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet) as (_, client):
        ann = Caller(client, await make_person())
        made = await folder(ann)
        path = f"/api/folders/{made['id']}"
        job_id = await ann.submit(executable=made["ref"])
        refused = await ann.ask("DELETE", path)
        assert refused.status_code == 409
        assert "1 job(s)" in refused.json()["detail"]
        puppet.end(await puppet.launched(job_id))
        await ann.until(job_id, "completed")
        assert (await ann.ask("DELETE", path)).status_code == 204
        assert await fetch(database, "SELECT digest FROM content_chunks") == []
        assert (await ann.job(job_id))["executable"] == made["ref"]
        again = await ann.post(f"/api/jobs/{job_id}/requeue")
        assert again.status_code == 409
        assert "was deleted" in again.json()["detail"]
        assert (await folder(ann))["id"] != made["id"]


async def test_a_folder_is_deleted_and_sent_again_at_the_same_time(
    stage: Stage, make_person: Make, database: Database
) -> None:
    """Whichever comes first, nobody waits for ever, and what is there is whole."""
    async with stage() as (_, client):
        ann, bob = Caller(client, await make_person()), Caller(client, await make_person())
        made = await folder(ann)
        for _ in range(5):
            delete = ann.ask("DELETE", f"/api/folders/{made['id']}")
            deleted, mine, other = await asyncio.gather(
                delete, send(ann, tar_gz(FILES)), send(bob, tar_gz(FILES))
            )
            assert deleted.status_code == 204
            assert {mine.status_code, other.status_code} <= {200, 201}
            made = await folder(ann)
            await ann.ask("DELETE", f"/api/folders/{other.json()['id']}")
            await bob.ask("DELETE", f"/api/folders/{other.json()['id']}")
        [row] = await fetch(
            database, "SELECT chunks, (SELECT count(*) FROM content_chunks) AS kept FROM contents"
        )
        assert row.chunks == row.kept == 1


async def test_a_folder_that_others_need_does_not_go_with_its_owner_or_its_group(
    stage: Stage, make_person: Make, database: Database
) -> None:
    puppet = Puppet(NODE)
    async with stage(puppet) as (_, client):
        boss = Caller(client, await make_person(role=Role.ADMIN))
        ann, bob = [Caller(client, await make_person(manages="course")) for _ in range(2)]
        mine = await folder(ann, group="default")
        theirs = await folder(bob, {"x": "1"}, group="course")
        jobs = [
            await bob.submit(executable=found["ref"], group="default") for found in (mine, theirs)
        ]
        [[course]] = await fetch(database, "SELECT id FROM groups WHERE name = 'course'")
        gone = [f"/api/users/{ann.person.user_id}", f"/api/groups/{course}"]
        for path in gone:
            refused = await boss.ask("DELETE", path)
            assert refused.status_code == 409, refused.text
            assert "1 job(s)" in refused.json()["detail"]
        for job_id in jobs:
            puppet.end(await puppet.launched(job_id))
            await bob.until(job_id, "completed")
        for path in gone:
            assert (await boss.ask("DELETE", path)).status_code == 204
        assert await fetch(database, "SELECT id FROM folders") == []


async def test_a_folder_is_not_deleted_under_a_submit(stage: Stage, make_person: Make) -> None:
    """Whichever comes first: a job has its folder, or is refused."""
    async with stage(Puppet()) as (_, client):
        ann = Caller(client, await make_person())
        for _ in range(5):
            made = await folder(ann)
            submit = ann.post("/api/jobs", json={"script": "x", "executable": made["ref"]})
            delete = ann.ask("DELETE", f"/api/folders/{made['id']}")
            submitted, deleted = await asyncio.gather(submit, delete)
            assert (submitted.status_code, deleted.status_code) in ((201, 409), (404, 204))
            if submitted.status_code == 201:
                await ann.ask("DELETE", f"/api/jobs/{submitted.json()['id']}")


async def test_a_content_that_is_gone_refuses_the_launch(database: Database) -> None:
    with pytest.raises(LaunchRefused, match="not kept any longer"):
        [part async for part in StoredContents(database).archive("0" * 64)]
