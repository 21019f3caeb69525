"""A run's environment."""

from queueapi.executors.environment import build_environment, encode_environment
from tests.executors.contract import make_run


def _build(**changes: object) -> dict[str, str]:
    run = make_run(**changes)  # type: ignore[arg-type]
    return build_environment(run, home="/h", tmpdir="/t", user="user7", input_path=None)


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
