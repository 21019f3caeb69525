"""What a user does from the command line, against a server that runs."""

import re
from collections.abc import Callable

from tests.cli.server import PASSWORD, Cli, Server, until


def test_journey(server: Server, new_cli: Callable[..., Cli]) -> None:
    eve = new_cli()
    who = ("--email", "eve@lab.example", "--password-stdin")
    assert "eve@lab.example" in eve.run("register", server.url, *who, stdin=PASSWORD).stdout
    eve.run("logout")
    eve.run("login", server.url, *who, stdin=PASSWORD)
    assert eve.json("whoami")["user"]["email"] == "eve@lab.example"

    submitted = eve.run("submit", "-", "--name", "greet", stdin="echo hello; sleep 0.3; echo bye")
    assert re.fullmatch(r"\d+\n", submitted.stdout)
    job_id = int(submitted.stdout)
    assert eve.run("logs", job_id, "-f").stdout == "hello\nbye\n"
    assert eve.run("wait", job_id).stdout == f"{job_id} completed\n"

    long = eve.submit("sleep 600")
    assert eve.run("cancel", long).stdout.startswith(f"{long} ")
    assert eve.run("wait", long, "--timeout", "1m", expect=202).stdout == f"{long} cancelled\n"
    assert eve.status(long)["reason"] == "Cancelled"
    listed = eve.run("list").stdout
    assert listed.splitlines()[0].split() == (
        ["ID", "NAME", "STATUS", "REASON", "USER", "GROUP", "CPUS", "MEMORY", "GPUS", "LIMIT"]
    )
    assert re.search(rf"^{job_id}  +greet  +completed", listed, re.MULTILINE)


def test_every_field_reaches_the_job(ada: Cli) -> None:
    (ada.home / "in.json").write_text('{"n": [1, 2]}')
    options = "--name n --cpus 2 --memory 512M --time 0:30:00 --priority 7 --tag a --tag b"
    job = ada.json(
        *("submit", *options.split(), "--env", "A=b=c", "--input", "in.json"),
        *("--retries", 3, "--type", "code", "--", "sh", "-c", 'echo "$A"; cat "$QUEUEAPI_INPUT"'),
    )
    assert ada.json("wait", job["id"])[0]["status"] == "completed"
    found = ada.status(job["id"])
    assert found["script"] == 'sh -c \'echo "$A"; cat "$QUEUEAPI_INPUT"\''
    assert found["stdout_tail"].startswith('b=c\n{"n":')
    wanted = {
        "name": "n",
        "cpu_cores": 2,
        "memory_gb": 0.5,
        "estimated_hours": 0.5,
        "priority": 7,
        "tags": ["a", "b"],
        "max_retries": 3,
        "job_type": "code",
        "input_data": {"n": [1, 2]},
    }
    assert {name: found[name] for name in wanted} == wanted


def test_a_shape_reaches_the_job_and_is_shown(ada: Cli) -> None:
    options = "--nodes 2 --tasks 4 --cpus-per-task 2 --memory-per-cpu 512M --gpus-per-task 1"
    words = [*options.split(), "--constraint", "IB&CPU-N|BigMem", "--exclusive", "-c", "true"]
    job = ada.json("submit", *words)
    wanted = {
        "nodes": 2,
        "tasks": 4,
        "cpu_cores": 4,
        "memory_gb": 2,
        "gpu_count": 2,
        "constraint": "IB&CPU-N|BigMem",
        "exclusive": True,
    }
    assert {name: job[name] for name in wanted} == wanted
    shown = ada.run("status", job["id"]).stdout
    assert re.search(r"^nodes +2$", shown, re.MULTILINE)
    assert re.search(r"^constraint +IB&CPU-N\|BigMem$", shown, re.MULTILINE)
    ada.run("cancel", job["id"])


def test_an_array(ada: Cli) -> None:
    script = 'test "$SLURM_ARRAY_TASK_ID" != 8 || exec sleep 600; echo "task $SLURM_ARRAY_TASK_ID"'
    array = ada.submit(script, "--array", "1-5:2,8")
    assert ada.run("cancel", array, "--tasks", "8").stdout.startswith(f"{array} ")
    assert ada.run("wait", array, expect=202).stdout == f"{array} cancelled\n"
    shown = ada.run("status", array).stdout
    assert re.search(r"^array +1-5:2,8$", shown, re.MULTILINE)
    assert re.search(r"^tasks +3 completed, 1 cancelled$", shown, re.MULTILINE)
    assert ada.run("logs", array, "--task", 3).stdout == "task 3\n"
    done = ada.run("tasks", array, "--status", "completed").stdout.splitlines()
    assert [line.split()[0] for line in done] == ["INDEX", "1", "3", "5"]
    assert "no array" in ada.run("tasks", done[1].split()[1], expect=1).stderr


def test_holding_and_priority(ada: Cli) -> None:
    # Nothing else asks for as many CPUs, so that the second job waits for the first.
    first = ada.submit("sleep 600", "--cpus", "8")
    second = ada.submit("echo second", "--cpus", "8")
    assert ada.run("hold", second).stdout == f"{second} queued (held)\n"
    assert ada.run("priority", second, 9).stdout == f"{second} queued priority 9\n"
    assert ada.json("release", second)[0]["held"] is False
    # The scheduler hears of it a moment later.
    until(lambda: [entry["job_id"] for entry in ada.json("queue")["entries"]] == [second])
    assert f"  {second}  " in ada.run("queue").stdout
    until(lambda: ada.json("status", first)["status"] == "running")
    assert ada.run("suspend", first).stdout == f"{first} running\n"  # not for long
    until(lambda: ada.json("status", first)["status"] == "suspended")
    assert ada.run("resume", first).stdout == f"{first} suspended\n"
    until(lambda: ada.json("status", first)["status"] == "running")
    refused = ada.run("release", second, first, expect=1)
    assert refused.stderr.count("Error: ") == 2
    ada.run("cancel", first)
    ada.run("wait", second)
    assert ada.run("requeue", second).stdout == f"{second} queued\n"
    ada.run("wait", second)
    kinds = [event["kind"] for event in ada.json("events", second)]
    assert kinds.count("ended") == 2 and "priority_changed" in kinds
    assert "priority_changed" in ada.run("events", second).stdout


def test_why_and_what_if(ada: Cli) -> None:
    first = ada.submit("sleep 600", "--cpus", "8", "--time", "2h")
    until(lambda: ada.json("status", first)["status"] == "running")
    second = ada.submit("true", "--cpus", "8", "--name", "next")
    until(lambda: ada.json("status", second)["reason"] == "Resources")
    told = ada.run("why", second).stdout
    assert re.search(r"^that is +needs 8 CPUs.* it is next", told, re.MULTILINE)
    assert re.search(rf"job {first} reaches its limit", told)
    assert "expected start" in told and "position" in told
    third = ada.submit("true", "--after-ok", str(second))
    assert re.search(
        rf"^waits for +afterok {second} \(queued\)$", ada.run("why", third).stdout, re.M
    )
    assert re.search(r"^node +\S", ada.run("why", first).stdout, re.MULTILINE)

    known = {"running": 1, "waiting": 2}
    until(lambda: known.items() <= ada.json("scheduler").items())
    asked = ("preview", "--cpus", 8, "--time", "1h", "--priority", 10, "-c", "true")
    shown = ada.run(*asked).stdout
    assert re.search(r"^accepted +yes$", shown, re.MULTILINE)
    assert re.search(r"^start +20.* \(nine of ten\)$", shown, re.MULTILINE)
    assert re.search(rf"^delays +{second} \(next\): (1:00:00|0:59:5\d)$", shown, re.MULTILINE)
    assert re.search(r"^CPU-minutes +480 at the most, \d", shown, re.MULTILINE)
    found = ada.json(*asked)
    assert (found["accepted"], found["reason"]) == (True, "Resources")
    refused = ada.run("preview", "--cpus", 97, "-c", "true", expect=1).stdout
    assert re.search(r"^that is +cpu_cores is 97; the most", refused, re.MULTILINE)
    assert len(ada.json("list", "--status", "queued", "--status", "running")) == 3
    ada.run("cancel", first, third)
    ada.run("wait", second)


def test_logs_in_part_and_in_whole(ada: Cli) -> None:
    job_id = ada.submit("seq 5; printf '\\377' >&2")
    ada.run("wait", job_id)
    assert ada.run("logs", job_id).stdout == "1\n2\n3\n4\n5\n"
    assert ada.run("logs", job_id, "--tail", 2).stdout == "4\n5\n"
    assert ada.run("logs", job_id, "--offset", 6, "-f").stdout == "4\n5\n"
    assert ada.json("logs", job_id, "--stderr") == {
        "stream": "stderr",
        "offset": 0,
        "base64": "/w==",
    }


def test_filters(ada: Cli) -> None:
    job_id = ada.submit("true", "--tag", "rare")
    ada.run("wait", job_id)
    assert [job["id"] for job in ada.json("list", "--tag", "rare")] == [job_id]
    assert ada.json("list", "--tag", "rare", "--status", "failed") == []
    assert ada.json("list", "--tag", "rare", "--before", "2026-01-01") == []
    assert len(ada.json("list", "--limit", 1)) == 1
    assert "not a time" in ada.run("list", "--after", "soon", expect=2).stderr


def test_administration(server: Server, root: Cli, new_cli: Callable[..., Cli]) -> None:
    ada, who = new_cli(), ("--email", "kim@lab.example", "--password-stdin")
    ada.run("register", server.url, *who, stdin=PASSWORD)
    created = root.json("admin", "group", "create", "physics", "--quota-cpu-minutes", 5)
    assert created["quota_cpu_minutes"] == 5
    changed = ("--quota-cpu-minutes", "default", "--join-policy", "open")
    group = root.json("admin", "group", "set", "physics", *changed)
    assert (group["quota_cpu_minutes"], group["join_policy"]) == (None, "open")
    assert "physics" in root.run("admin", "group", "list").stdout
    top = root.json("admin", "group", "create", "faculty", "--shares", "parent")
    placed = root.json("admin", "group", "set", "physics", "--parent", "faculty", "--shares", 30)
    assert (top["shares"], placed["shares"], placed["parent_id"]) == (None, 30, top["id"])
    assert root.json("admin", "group", "set", "physics", "--parent", "")["parent_id"] is None
    email = ada.json("whoami")["user"]["email"]
    assert root.json("admin", "group", "add", "physics", email)["status"] == "approved"
    assert ada.json("submit", "-c", "true", "--group", "physics")["group"] == "physics"
    assert root.json("admin", "user", "set-role", email, "user")["role"] == "user"
    assert email in root.run("admin", "user", "list").stdout
    assert "Only administrators" in ada.run("admin", "user", "list", expect=1).stderr
    assert root.json("admin", "user", "deactivate", email)["is_active"] is False
    ada.run("list", expect=1)
    root.run("admin", "user", "activate", email)
    assert "no group named" in root.run("admin", "group", "set", "x", *changed, expect=1).stderr


def test_nodes(root: Cli, ada: Cli) -> None:
    [node] = ada.json("nodes")
    name = node["name"]
    assert (node["state"], node["total"]["cpus"]) == ("up", 8)
    try:
        [drained] = root.json("admin", "node", "drain", name, "--reason", "new disks")
        assert (drained["state"], drained["reason"]) == ("drain", "new disks")
        assert root.json("admin", "node", "features", name, "IB", "X")["features"] == ["IB", "X"]
        shown = ada.run("nodes").stdout
        assert f"{name}  " in shown and "IB,X" in shown and "new disks" in shown
    finally:
        [resumed] = root.json("admin", "node", "resume", name)
    assert (resumed["state"], resumed["reason"]) == ("up", None)
    assert root.json("admin", "node", "features", name)["features"] == []
    refused = ada.run("admin", "node", "drain", name, "--reason", "mine", expect=1)
    assert "Only administrators" in refused.stderr
    assert "There is no node" in root.run("admin", "node", "resume", "n9", expect=1).stderr


def test_queues(root: Cli, ada: Cli) -> None:
    listed = ada.run("queues").stdout.splitlines()
    assert [line.split()[:3] for line in listed[1:]] == [
        ["express", "up", "0:05:00"],
        ["normal", "up", "1-0:00:00"],
        ["long", "up", "7-0:00:00"],
    ]
    made = root.json("admin", "queue", "create", "viz", "--time", "90m", "--groups", "default")
    assert (made["max_estimated_hours"], made["groups"], made["is_routed"]) == (
        1.5, ["default"], False,
    )  # fmt: skip
    job = ada.json("submit", "-c", "true", "--queue", "viz")
    assert job["queue"] == "viz"
    assert re.search(r"^queue +viz$", ada.run("status", job["id"]).stdout, re.MULTILINE)
    ada.run("wait", job["id"])
    assert [found["id"] for found in ada.json("list", "--queue", "viz")] == [job["id"]]
    changes = ("--state", "inactive", "--max-running-per-user", 3, "--groups", "all", "--routed")
    changed = root.json("admin", "queue", "set", "viz", *changes)
    assert changed == made | {
        "state": "inactive", "max_running_per_user": 3, "groups": None, "is_routed": True,
    }  # fmt: skip
    cleared = root.json("admin", "queue", "set", "viz", "--max-running-per-user", "none")
    assert cleared["max_running_per_user"] is None
    refused = ada.run("submit", "-c", "true", "--queue", "viz", expect=1)
    assert "takes no new jobs at present" in refused.stderr
    assert "Only administrators" in ada.run("admin", "queue", "delete", "viz", expect=1).stderr
    assert root.run("admin", "queue", "delete", "viz").stdout == "The queue viz is deleted.\n"
    for wrong in (("set", "viz"), ("create", "x"), ("set", "x", "--max-running-per-user", "many")):
        root.run("admin", "queue", *wrong, expect=2)


def test_reservations(root: Cli, ada: Cli) -> None:
    make = ("admin", "reservation", "create", "power", "--start", "2090-12-01T08:00")
    made = root.json(*make, "--duration", "4h", "--note", "power cut")
    assert (made["kind"], made["nodes"], made["note"]) == ("maintenance", [], "power cut")
    assert re.search(r"^power  +maintenance  +local  +all  +2090-12-01 08:00:00  +2090-12-01 12:00",
                     ada.run("reservations").stdout, re.MULTILINE)  # fmt: skip
    changed = root.json("admin", "reservation", "set", "power", "--group", "default")
    assert (changed["kind"], changed["groups"]) == ("reserved", ["default"])
    job = ada.json("submit", "--reservation", "power", "-c", "true")
    assert job["reservation"] == "power"
    assert (
        "Only administrators" in ada.run("admin", "reservation", "delete", "power", expect=1).stderr
    )
    assert "power is deleted" in root.run("admin", "reservation", "delete", "power").stdout
    assert ada.json("wait", job["id"])[0]["status"] == "completed"
    assert "--end" in root.run(*make, expect=2).stderr
    assert "not a time" in root.run(*make, "--duration", "soon", expect=2).stderr
    assert "Name something" in root.run("admin", "reservation", "set", "x", expect=2).stderr
