"""Launch proofs: how often a job ran, and what shows it."""

from datetime import datetime

from queueapi.client._requests import Request, _reader
from queueapi.client.models import Document


class ProofStep(Document):
    at: datetime  # by the clock of who recorded it
    step: str  # committed, prepared, start_lock, launched, recorded, exit_record or closed
    source: str  # database or cluster
    message: str


class StartLock(Document):
    """Taken once for a launch key, by whoever runs the script."""

    taken_at: datetime
    host: str | None
    boot_id: str | None
    pid: int | None


class ExitRecord(Document):
    ended_at: datetime
    exit_code: int
    reason: str | None


class AttemptProof(Document):
    number: int
    launch_key: str
    epoch: int  # of the leader that committed it
    cluster: str
    node: str
    remote_id: str | None
    reason: str | None
    steps: list[ProofStep]
    start_lock: StartLock | None
    exit_record: ExitRecord | None
    is_alive: bool | None
    missing: list[str]  # what is not on record, in words


class SubmissionProof(Document):
    at: datetime
    idempotency_key: str | None  # shown to who sent it
    idempotency_key_sha256: str | None


class LaunchProof(Document):
    """`conclusion`: not_started, running, ran_once, ran_again or unproven."""

    job_id: int
    status: str
    as_of: datetime
    conclusion: str
    message: str
    starts: int  # attempts whose script was begun
    submission: SubmissionProof
    attempts: list[AttemptProof]


def launch_proof(job_id: int) -> Request[LaunchProof]:
    path = f"/api/jobs/{job_id}/launch-proof"
    return Request("GET", path, _reader(LaunchProof), repeatable=True)
