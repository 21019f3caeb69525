"""What Slurm's programs say when they fail. The texts are those of 22.05 and 24.11."""

import pytest

from queueapi.executors.slurm.complaints import Kind, parse_complaint


@pytest.mark.parametrize(
    ("stderr", "kind"),
    [
        ("squeue: error: Unable to contact slurm controller (connect failure)\n", Kind.UNREACHABLE),
        ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n",
         Kind.UNREACHABLE),
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller "
         "(connect failure)\n", Kind.UNREACHABLE),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n",
         Kind.UNCERTAIN),
        ("sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received\n",
         Kind.UNCERTAIN),
        ("slurm_load_jobs error: Invalid job id specified\n", Kind.NO_JOB),
        ("Access/permission denied for job 49\n", Kind.DENIED),
        ("sbatch: error: Batch job submission failed: Requested node configuration is not "
         "available\n", Kind.NEVER),
        ("sbatch: error: invalid partition specified: nope\nsbatch: error: Batch job submission "
         "failed: Invalid partition name specified\n", Kind.NEVER),
        ("sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job "
         "submit limit, user's size and/or time limits)\n", Kind.LATER),
        ("sacct: error: slurm_persist_conn_open_without_init: failed to open persistent "
         "connection to host:127.0.0.1:21802: Connection refused\nsacct: error: Sending "
         "PersistInit msg: Connection refused\nsacct: error: Problem talking to the database: "
         "Connection refused\n", Kind.UNREACHABLE),
    ],
)  # fmt: skip
def test_a_complaint_says_what_to_do(stderr: str, kind: Kind) -> None:
    assert parse_complaint(stderr).kind is kind


def test_a_complaint_is_told_in_slurms_words() -> None:
    complaint = parse_complaint("sbatch: error: Batch job submission failed: Invalid qos\n")
    assert complaint.message == "Invalid qos"


def test_a_program_that_failed_without_a_word_was_refused() -> None:
    assert parse_complaint("").kind is Kind.NEVER
