"""What schemathesis must know of this API that no OpenAPI document can say."""

import itertools
import os
import re
from typing import Any

import httpx
import schemathesis
from schemathesis import HookContext, Response

from tests.files.archives import tar_gz

KEPT_USERS = os.environ["FUZZ_KEPT_USERS"].split(",")
KEPT_GROUP = os.environ["FUZZ_KEPT_GROUP"]
SPARE_USER, SPARE_GROUP = int(os.environ["FUZZ_SPARE_USER"]), int(os.environ["FUZZ_SPARE_GROUP"])
SPARE_ARRAY = {"job_id": int(os.environ["FUZZ_SPARE_ARRAY"]), "index": 1}
SPARE_ENDED = int(os.environ["FUZZ_SPARE_ENDED"])
ADMIN = {"Authorization": f"Bearer {os.environ['FUZZ_ADMIN_TOKEN']}"}
CHANGES_USERS = {"change_user", "delete_user", "set_member", "remove_member"}
CHANGES_GROUPS = {"change_group", "delete_group"}
# Fields that may be wrong beside another: two that say the same thing, or too much together.
BESIDE_OTHERS = {
    *("nodes", "tasks", "tasks_per_node", "cpus_per_task", "cpu_cores"),
    *("memory_gb", "memory_per_node_gb", "memory_per_cpu_gb"),
    *("gpu_count", "gpus_per_node", "gpus_per_task"),
    *("reason", "ends_at"),  # needed with some states; after the start and the present
    *("estimated_hours", "time", "memory", "memory_per_cpu", "memory_per_gpu", "gres"),
    *("memory_per_gpu_gb", "gpu_type", "constraint", "num_of_node", "num_of_task"),
    *("cpu_per_task", "gpu_per_task", "gpus_per_task", "script", "command"),
    *("kind", "key_path", "private_key", "private_key_path"),  # of a cluster; kinds are code
}
RANGES = {"array", "indices", "tasks"}  # of an array: each ends after it begins
CHANGES_QUEUES = {"change_queue", "delete_queue"}
KEPT_QUEUES = {"express", "normal", "long", "closed"}  # or submits would find none
WAITS = {"script": "true", "queue": "closed"}  # for ever, so that it can be acted on
OF_WAITING = {"hold_job", "release_job", "cancel_job", "cancel_workflow"}
NODE = {"cluster": "local", "name": "null"}
FOR_THE_NODE = {"cluster": "local", "nodes": ["null"], "users": [], "groups": []}
FAR_AHEAD = {"starts_at": "2098-01-01T00:00:00Z", "ends_at": "2099-01-01T00:00:00Z"}
LONGEST_WAIT = 0.05  # seconds
OF_A_GRAPH = re.compile(r"(/jobs/\d+)?/(label|depends_on|waits_for(/\d+/label)?)")
OF_DATA = re.compile(r"(/jobs/\d+)?/data/target")  # which hosts there may be, and what a commit is
OF_ANOTHER = "not of this cluster"  # what is said of the fields of clusters of other kinds
ENDED = ("completed", "failed", "cancelled")

numbers = itertools.count()


@schemathesis.hook
def before_load_schema(context: HookContext, raw_schema: dict[str, Any]) -> None:
    """A pattern that repeats a million times is beyond its generator of texts, which then makes
    no job at all; without the pattern, and with `allow-x00` off, it makes the same texts."""
    for name in ("JobSubmission", "WorkflowJob"):
        raw_schema["components"]["schemas"][name]["properties"]["script"].pop("pattern")


@schemathesis.hook
def filter_failure(context: HookContext, failure: Any, case: Any, response: Response) -> bool:
    """False for a refusal that is right although the request is as the document has it: a
    cursor is opaque, and so any text that is none of ours; fields may contradict each other; a
    graph of jobs has no circle, and names each job once; not all bytes are an archive. Nor is
    what has been made gone where the answer is 404 for something else that the body names."""
    if type(failure).__name__ == "EnsureResourceAvailability":
        return not response.json().get("errors")
    if type(failure).__name__ != "RejectedPositiveData":
        return True
    if case.operation.definition.raw.get("operationId") == "upload_folder":
        return bool(response.status_code != 422)
    errors = response.json().get("errors", [])
    if [error["pointer"] for error in errors] == ["cursor"]:
        return False
    return not errors or not all(map(is_beyond_a_schema, errors))


def is_beyond_a_schema(error: dict[str, str]) -> bool:
    if error["message"] == OF_ANOTHER:
        return True
    pointer = error["pointer"]
    return pointer.rpartition("/")[2] in BESIDE_OTHERS | RANGES or any(
        p.fullmatch(pointer) for p in (OF_A_GRAPH, OF_DATA)
    )


@schemathesis.hook
def before_call(context: HookContext, case: Any, kwargs: dict[str, Any]) -> None:
    """The people and the group that the run stands on are left alone; spare ones are not."""
    operation = case.operation.definition.raw.get("operationId")
    place = case.path_parameters
    if operation in CHANGES_USERS and str(place.get("user_id")) in KEPT_USERS:
        place["user_id"] = SPARE_USER
    if operation in CHANGES_GROUPS and str(place.get("group_id")) == KEPT_GROUP:
        place["group_id"] = SPARE_GROUP
    if operation in CHANGES_QUEUES and place.get("queue_name") in KEPT_QUEUES:
        place["queue_name"] = "spare"
    if operation == "get_task" and all(str(part).isdigit() for part in place.values()):
        place |= SPARE_ARRAY  # hardly any other number is an array's, with such a task
    if operation == "list_tasks" and str(place.get("job_id")).isdigit() and next(numbers) % 2:
        place["job_id"] = SPARE_ARRAY["job_id"]
    if operation == "requeue_job" and str(place.get("job_id")).isdigit() and next(numbers) % 2:
        place["job_id"] = SPARE_ENDED
    if operation in OF_WAITING and all(str(part).isdigit() for part in place.values()):
        let_wait(case, operation)
    if operation in ("get_node", "change_node", "create_reservation", "change_reservation"):
        keep_the_node(operation, place, case.body)
    if operation in ("submit_job", "submit_jobs", "submit_workflow"):
        renew_key(case)
    if operation == "upload_folder" and isinstance(case.body, str | bytes):
        number = next(numbers)
        if number % 2:
            case.body = tar_gz({"main.py": f"print({number})"})
    if operation in ("get_job", "get_job_logs"):
        shorten_wait(case)


def let_wait(case: Any, operation: str) -> None:
    """Every other time what is acted on waits; by itself a job ends at once."""
    if next(numbers) % 2:
        return
    with httpx.Client(base_url=case.operation.base_url, headers=ADMIN) as client:
        if operation == "cancel_workflow":
            jobs = {"jobs": [WAITS | {"label": "waits"}]}
            case.path_parameters["workflow_id"] = client.post("/api/workflows", json=jobs).json()[
                "id"
            ]
            return
        job_id = case.path_parameters["job_id"] = client.post("/api/jobs", json=WAITS).json()["id"]
        if operation == "release_job":
            client.post(f"/api/jobs/{job_id}/hold")


def keep_the_node(operation: str, place: dict[str, Any], body: Any) -> None:
    """The one node that there is is met every other time, and takes jobs all the time."""
    is_met = next(numbers) % 2 == 0
    if operation in ("get_node", "change_node") and is_met:
        place |= NODE
    if not isinstance(body, dict):
        return
    if operation == "change_node" and body.get("state") in ("drain", "down"):
        body["state"] = "up"
        body.pop("reason", None)
    if operation == "create_reservation" and is_met:
        body |= {name: value for name, value in FOR_THE_NODE.items() if name in body}
    if all(re.match(r"\d{4}-", str(body.get(name))) for name in FAR_AHEAD):
        body |= FAR_AHEAD


def renew_key(case: Any) -> None:
    """A key that came before is refused with another body. A key that is none stays as it is."""
    key = (case.headers or {}).get("Idempotency-Key")
    if isinstance(key, str) and re.fullmatch(r"[!-~]{1,255}", key):
        case.headers["Idempotency-Key"] = f"{next(numbers)}.{key}"[:255]


def shorten_wait(case: Any) -> None:
    """A long poll takes as long as it is asked to, and a live log as long as its job."""
    query = case.query or {}
    wait = query.get("wait")
    if isinstance(wait, int | float) and LONGEST_WAIT < wait <= 60:
        query["wait"] = LONGEST_WAIT
    if str(query.get("follow")).lower() in ("true", "1", "yes", "on", "y", "t"):
        url = f"{case.operation.base_url.rstrip('/')}/api/jobs/{case.path_parameters.get('job_id')}"
        answer = httpx.get(url, headers=ADMIN)
        if answer.status_code == 200 and answer.json()["status"] not in ENDED:
            query["follow"] = False
