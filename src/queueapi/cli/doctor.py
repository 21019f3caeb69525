"""`doctor job`: what shows how often a job ran."""

from queueapi.cli.connection import Connection
from queueapi.cli.jobs import JobId
from queueapi.cli.output import Table, columns
from queueapi.cli.quantities import local_time
from queueapi.client.proofs import AttemptProof, LaunchProof


def job(connection: Connection, job_id: JobId) -> None:
    """Show what proves how often a job ran."""
    with connection.client() as client:
        proof = client.launch_proof(job_id)
    connection.out.result(proof, report(proof))


def report(proof: LaunchProof) -> str:
    """As lines for people."""
    sent = proof.submission
    key = sent.idempotency_key or (
        f"sha256 {sent.idempotency_key_sha256}" if sent.idempotency_key_sha256 else "none on record"
    )
    lines = [
        f"Job {proof.job_id} is {proof.status}. {proof.message}",
        f"Submitted {local_time(sent.at)}, Idempotency-Key: {key}",
    ]
    for attempt in proof.attempts:
        lines += ["", *_attempt(attempt)]
    return "\n".join(lines)


def _attempt(attempt: AttemptProof) -> list[str]:
    rows = [(local_time(s.at), s.step, s.source, s.message) for s in attempt.steps]
    lines = [f"Attempt {attempt.number}, launch key {attempt.launch_key}, epoch {attempt.epoch}"]
    if lock := attempt.start_lock:
        by = f"process {lock.pid or 'unknown'} on {lock.host or 'an unknown host'}"
        lines.append(f"  start lock: {by}, boot {lock.boot_id or 'unknown'}")
    if rows:
        lines += [f"  {line}" for line in columns(Table((), rows)).splitlines()]
    return [*lines, *(f"  ! {words}" for words in attempt.missing)]
