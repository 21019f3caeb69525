"""A real array on this machine: every index once, never more tasks at once than it allows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.jobs.test_arrays import counts, settled, submit, tasks
from tests.jobs.test_running import LOCAL
from tests.staging import Caller, Stage

Make = Callable[..., Any]
SCRIPT = """
mkdir {place}/$SLURM_ARRAY_TASK_ID
echo "$QUEUEAPI_ARRAY_JOB_ID $QUEUEAPI_ARRAY_TASK_ID $(ls {place} | wc -l) $A"
sleep 0.05
rmdir {place}/$SLURM_ARRAY_TASK_ID
test $TASK_ID != 17
"""


async def test_thirty_tasks_three_at_once(stage: Stage, make_person: Make, data_dir: Path) -> None:
    place = data_dir / "running"
    place.mkdir()
    place.chmod(0o777)
    many = {"local_cpus": 16, "max_running_per_user": 10, "max_concurrent_jobs": 20}
    async with stage(**LOCAL | many) as (_, client):
        caller = Caller(client, await make_person())
        asked = {"memory_gb": 0.05, "estimated_hours": 0.1, "env": {"A": "same"}}
        script = SCRIPT.format(place=place)
        array = (await submit(caller, "0-29%3", script=script, **asked))["id"]
        ended = await settled(caller, array, {"completed": 29, "failed": 1})
        lines = {}
        for task in await tasks(caller, array):
            log = (await caller.get(f"/api/jobs/{task['id']}/logs")).text
            lines[task["array_index"]] = log.split()
            assert task["exit_code"] == (task["array_index"] == 17)
    assert (ended["status"], ended["exit_code"], counts(ended)["failed"]) == ("failed", 1, 1)
    assert ended["usage"]["cpu_minutes"] > 0
    assert sorted(lines) == list(range(30))
    for index, (array_id, own_index, at_once, shared) in lines.items():
        assert (array_id, own_index, shared) == (str(array), str(index), "same")
        assert 1 <= int(at_once) <= 3
    assert max(int(words[2]) for words in lines.values()) > 1
