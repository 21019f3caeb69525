"""How new jobs become rows: one statement for all of them, with their counts, keys and news."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import to_json

from queueapi.jobs.admission import Submission
from queueapi.jobs.limits import Admission
from queueapi.jobs.schemas import JobSubmission

# What comes from a submission as it is: the field, and the type in which it is read.
_FIELDS = {
    "name": "text",
    "job_type": "text",
    "tags": "text[]",
    "script": "text",
    "env": "jsonb",
    "node_count": "int",
    "task_count": "int",
    "cpus": "int",
    "memory_mb": "int",
    "gpus": "smallint",
    "gpu_type": "text",
    "constraint": "text",
    "exclusive": "boolean",
    "reservation": "text",
    "time_limit": "int",
    "priority": "smallint",
    "max_retries": "smallint",
    "provider": "text",
    "cluster": "text",
    "site": "jsonb",
    "container": "jsonb",
    "executable": "text",
    "data": "jsonb",
    "instance_type": "text",
    "array": "text",
}
_ALL = JobSubmission.model_fields.keys() | JobSubmission.model_computed_fields.keys()
_NULL_UNLESS_GIVEN = {
    name
    for name, field in JobSubmission.model_fields.items()
    if name in _FIELDS and field.default is None
}
_JOBS = TypeAdapter(list[JobSubmission])
# `input` is apart, since json_to_recordset() can't take in "\u0000".
_NEW = f"""
    SELECT nextval('jobs_id_seq') AS id, r.*
    FROM ROWS FROM (
        json_to_recordset(CAST(:rows AS json)) AS (
            {", ".join(f'"{name}" {kind}' for name, kind in _FIELDS.items())}
        ),
        unnest(CAST(:submissions AS int[]), CAST(:owners AS bigint[]), CAST(:groups AS bigint[]),
            CAST(:queues AS text[]), CAST(:costs AS text[]), CAST(:inputs AS text[]))
    ) WITH ORDINALITY AS r ({", ".join(f'"{name}"' for name in _FIELDS)},
        submission, user_id, group_id, queue, cost, input, ordinality)
"""  # noqa: S608 - nobody's text but ours
_STORED = """
    INSERT INTO jobs (id, user_id, group_id, estimated_cost, name, job_type, tags, script, env,
        input_data, nodes, tasks, cpu_cores, memory_mb, gpu_count, gpu_type, "constraint",
        exclusive, reservation, time_limit, queue, base_priority,
        max_retries, provider, cluster, site, container, executable, data, data_folder,
        instance_type, array_indices)
    SELECT id, user_id, group_id, CAST(cost AS numeric), name, job_type, tags, script, env,
        CAST(input AS json), node_count, task_count, cpus, memory_mb, gpus, gpu_type,
        "constraint", exclusive, reservation, time_limit, queue, priority,
        max_retries, provider, cluster, site, container,
        CAST(split_part(executable, ':', 2) AS bigint), data,
        CASE WHEN data->>'target' LIKE 'folder:%'
            THEN CAST(split_part(data->>'target', ':', 2) AS bigint) END,
        instance_type, "array"
    FROM new
"""
_POSTED = (
    "INSERT INTO inbox (job_ids) SELECT array_agg(id ORDER BY id) FROM new HAVING count(*) > 0"
)
KEYS = """
    SELECT k.user_id, k.key, k.body_hash,
        (SELECT array_agg(id ORDER BY ordinality) FROM new WHERE new.submission = k.submission)
    FROM json_to_recordset(CAST(:keys AS json))
        AS k(submission int, user_id bigint, key text, body_hash text)
"""
# A key may be there from long ago.
KEYED = f"""
    INSERT INTO idempotency_keys (user_id, key, body_hash, job_ids) {KEYS}
    ON CONFLICT (user_id, key) DO UPDATE SET body_hash = excluded.body_hash,
        job_ids = excluded.job_ids, created_at = now()
    WHERE idempotency_keys.created_at <= now() - make_interval(hours => :hours)
    RETURNING 1
"""


def storing(*, counted: str, keyed: str, before: str = "", only_if: str = "true") -> str:
    """The statement. It takes the values of `rows_of`, and those that the parts name.

    `before`: more parts in front, with commas behind each; `only_if`: else nothing is stored.
    """
    return f"""
        WITH {before} new AS MATERIALIZED ({_NEW} WHERE {only_if}),
            stored AS ({_STORED}), posted AS ({_POSTED}),
            counted AS (
                UPDATE submitted_counts s SET active = s.active + n.jobs
                FROM (SELECT user_id, count(*) AS jobs FROM new GROUP BY user_id) n
                WHERE s.user_id = n.user_id AND {counted}
            ), keyed AS ({keyed})
        SELECT array_agg(id ORDER BY ordinality) AS ids, now() AS created_at,
            (SELECT count(*) FROM keyed) AS keys
        FROM new
    """  # noqa: S608


def rows_of(
    submissions: Sequence[Submission], admitted: Mapping[int, Sequence[Admission]]
) -> dict[str, Any]:
    """The values of the statement that make rows of the jobs that were admitted, in order."""
    jobs = [job for index in admitted for job in submissions[index].jobs]
    places = [place for admissions in admitted.values() for place in admissions]
    whose = [index for index, admissions in admitted.items() for _ in admissions]
    return {
        "rows": _documents(jobs),
        "submissions": whose,
        "owners": [submissions[index].principal.user_id for index in whose],
        "groups": [place.group.group_id for place in places],
        "queues": [place.queue.name for place in places],
        "costs": [str(place.cost) for place in places],
        "inputs": [
            None if job.input_data is None else to_json(job.input_data).decode() for job in jobs
        ],
    }


def _documents(jobs: list[JobSubmission]) -> str:
    """Without what none of them asks for: for a large batch, half of it would be nulls."""
    given = set[str]().union(*(job.model_fields_set for job in jobs))
    left_out = _ALL - _FIELDS.keys() | _NULL_UNLESS_GIVEN - given
    return _JOBS.dump_json(jobs, exclude={"__all__": left_out}).decode()


def keys_of(submissions: Sequence[Submission], indices: Iterable[int]) -> list[dict[str, Any]]:
    """The Idempotency-Keys of these submissions, for `keys`."""
    return [
        {
            "submission": index,
            "user_id": submissions[index].principal.user_id,
            "key": submissions[index].key,
            "body_hash": submissions[index].body_hash(),
        }
        for index in indices
        if submissions[index].key is not None
    ]
