"""Jobs' events: the story that they tell must be a possible one, and end where the job is."""

from sqlalchemy import text

from queueapi.doctor.rows import RowCheck
from queueapi.jobs.lifecycle import ALLOWED

_STEPS = ", ".join(f"('{a}', '{b}')" for a, allowed in ALLOWED.items() for b in sorted(allowed))
_STORY = text(f"""
WITH told AS (
    SELECT job_id, id, state, lag(state) OVER story AS before, lead(id) OVER story AS next
    FROM job_events WHERE job_id > :after AND job_id <= :upto
    WINDOW story AS (PARTITION BY job_id ORDER BY id)
)
SELECT j.id AS key, 'job ' || j.id AS subject, CASE
    WHEN t.next IS NULL AND t.state <> j.state
        THEN 'it is ' || j.state || ', and by its last event ' || t.state
    ELSE 'by its events it came from ' || t.before || ' to ' || t.state END AS message
FROM told t JOIN jobs j ON j.id = t.job_id
WHERE (t.before <> t.state AND (t.before, t.state) NOT IN ({_STEPS}))
   OR (t.next IS NULL AND t.state <> j.state)
UNION ALL
SELECT j.id, 'job ' || j.id, 'it is ' || j.state || ', and has no events'
FROM jobs j
WHERE j.id > :after AND j.id <= :upto AND j.state IN ('starting', 'running', 'suspended')
  AND NOT EXISTS (SELECT FROM job_events e WHERE e.job_id = j.id)
""")  # noqa: S608 - the states are ours

CHECKS = (
    RowCheck(
        "events-out-of-order",
        "A job's events are steps that a job can take, and end in its state.",
        "Something else than the server changed it: find out what. History is not rewritten.",
        "jobs",
        _STORY,
    ),
)
