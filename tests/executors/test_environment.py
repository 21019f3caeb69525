"""A run's environment."""

from queueapi.executors.base import ArrayTask
from queueapi.executors.environment import build_environment, encode_environment
from tests.executors.contract import make_run


def _build(**changes: object) -> dict[str, str]:
    run = make_run(**changes)  # type: ignore[arg-type]
    return build_environment(
        run, home="/h", tmpdir="/t", user="user7", result_path="/r", input_path=None
    )


def test_ours_goes_over_the_users_and_theirs_over_the_defaults() -> None:
    environment = _build(
        environment={"PATH": "/mine", "QUEUEAPI_CPUS": "9", "CUDA_VISIBLE_DEVICES": "0,1,2"},
        cpus=3,
        gpu_indices=(1, 3),
    )
    assert environment["PATH"] == "/mine"
    assert environment["QUEUEAPI_CPUS"] == environment["OMP_NUM_THREADS"] == "3"
    assert environment["CUDA_VISIBLE_DEVICES"] == "1,3"
    assert "QUEUEAPI_INPUT" not in environment


def test_the_file_has_a_line_per_variable_and_no_other_newline() -> None:
    encoded = encode_environment({"A": "1\n2", "B": "é\\", "C": " = "})
    assert encoded == b"A=1\\00122\nB=\\0303\\0251\\0134\nC= = \n"


def test_scripts_find_their_nodes_and_tasks_in_our_words_and_in_slurms() -> None:
    environment = _build(nodes=("n1", "n2"), tasks=5, cpus=6, memory_mb=2048)
    assert environment["QUEUEAPI_NODES"] == "n1,n2"
    assert (environment["QUEUEAPI_NODE_COUNT"], environment["QUEUEAPI_TASKS"]) == ("2", "5")
    assert environment["SLURM_JOB_NUM_NODES"] == environment["SLURM_NNODES"] == "2"
    assert (environment["SLURM_NTASKS"], environment["SLURM_NTASKS_PER_NODE"]) == ("5", "3")
    assert (environment["SLURM_CPUS_PER_TASK"], environment["SLURM_CPUS_ON_NODE"]) == ("2", "6")
    assert environment["SLURM_MEM_PER_NODE"] == "2048"


def test_slurms_words_are_the_users_to_change_and_do_not_call_for_srun() -> None:
    environment = _build(environment={"SLURM_NTASKS": "9", "QUEUEAPI_NODES": "elsewhere"})
    assert (environment["SLURM_NTASKS"], environment["QUEUEAPI_NODES"]) == ("9", "")
    assert environment.keys().isdisjoint({"SLURM_JOB_ID", "SLURM_JOBID", "SLURM_NODELIST"})


def test_a_task_of_an_array_knows_which_it_is_in_our_words_and_slurms() -> None:
    own = {"SLURM_ARRAY_TASK_ID": "0", "QUEUEAPI_ARRAY_TASK_ID": "0", "JOB_ID": "mine"}
    environment = _build(environment=own, array_task=ArrayTask(12, 7, 4, 1, 10))
    for prefix in ("QUEUEAPI", "SLURM"):
        found = [environment[f"{prefix}_ARRAY_{name}"] for name in ("JOB_ID", "TASK_ID")]
        assert found == ["12", "7"]
        assert environment[f"{prefix}_ARRAY_TASK_COUNT"] == "4"
    assert environment["SLURM_ARRAY_TASK_MIN"] == "1"
    assert environment["SLURM_ARRAY_TASK_MAX"] == "10"
    # What any script may use for something else is only a default.
    assert (environment["JOB_ID"], environment["TASK_ID"]) == ("mine", "7")
    assert not any("ARRAY" in name or name == "TASK_ID" for name in _build())
