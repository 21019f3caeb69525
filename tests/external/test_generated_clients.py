"""Clients that openapi-generator makes from openapi.json, put to use."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.external.conftest import HERE, PASSWORD, ROOT, Server

GENERATOR = Path(sys.executable).with_name("openapi-generator-cli")
JOURNEYS = HERE / "journeys"
# As strict as the compiler gets about what it is given; the generated code must not be excused.
STRICT = ["--strict", "--target", "es2022", "--module", "commonjs", "--lib", "es2022,dom"]


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=100,
    )


def generate(language: str, folder: Path, *options: str) -> Path:
    made = run(
        GENERATOR, "generate", "-i", ROOT / "openapi.json", "-g", language, "-o", folder, *options
    )
    assert made.returncode == 0, made.stdout
    return folder


@pytest.fixture(scope="module")
def python_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("python-client")
    return generate("python", folder, "--package-name", "queueapi_generated")


@pytest.fixture(scope="module")
def typescript_client(tmp_path_factory: pytest.TempPathFactory, node_bin: Path) -> Path:
    folder = tmp_path_factory.mktemp("typescript-client")
    generate("typescript-fetch", folder / "client")
    shutil.copy(JOURNEYS / "journey.ts", folder)
    return folder


def test_the_python_client_submits_a_job_waits_for_it_and_reads_its_logs(
    python_client: Path, local_server: Server, tmp_path: Path
) -> None:
    journey = tmp_path / "journey.py"
    shutil.copy(JOURNEYS / "journey.py.txt", journey)
    done = run(
        sys.executable,
        *("-W", "error", journey, local_server.url, "generated-python@lab.example", PASSWORD),
        PYTHONPATH=str(python_client),
    )
    assert done.returncode == 0, done.stdout


def test_the_python_client_knows_the_type_of_every_parameter(python_client: Path) -> None:
    for path in (python_client / "queueapi_generated" / "api").glob("*_api.py"):
        assert "Annotated[Optional[Any]" not in path.read_text(), path.name


def test_the_typescript_client_compiles_and_so_does_a_program_that_uses_it(
    typescript_client: Path, node_bin: Path
) -> None:
    done = run(node_bin / "tsc", "--noEmit", *STRICT, typescript_client / "journey.ts")
    assert done.returncode == 0, done.stdout


def test_the_typescript_client_submits_a_job_waits_for_it_and_reads_its_logs(
    typescript_client: Path, node_bin: Path, local_server: Server, tmp_path: Path
) -> None:
    compiled = run(
        node_bin / "tsc", "--outDir", tmp_path, *STRICT, typescript_client / "journey.ts"
    )
    assert compiled.returncode == 0, compiled.stdout
    done = run(
        *("node", tmp_path / "journey.js"),
        *(local_server.url, "generated-typescript@lab.example", PASSWORD),
    )
    assert done.returncode == 0, done.stdout
