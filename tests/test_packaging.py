"""What is shipped: the wheel, and the files that build and start it in containers."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

import queueapi

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "queueapi"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, without the network, by the hatchling of this environment."""
    if find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed")
    copy = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("src", "migrations"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [built] = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheel's packages lie, as an installation would have them."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run_installed(installed: Path, code: str) -> str:
    """Run code that imports queueapi from there, and all else from this environment."""
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=installed,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_wheel_has_all_of_the_package(installed: Path) -> None:
    ours = {
        path.relative_to(SOURCE)
        for path in SOURCE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {Path("py.typed"), Path("executors/run_wrapper.sh")} <= ours
    missing = {path for path in ours if not (installed / "queueapi" / path).is_file()}
    assert missing == set()


def test_the_wheel_has_nothing_else(installed: Path) -> None:
    top = {path.name for path in installed.iterdir()}
    assert top == {"queueapi", f"queueapi-{queueapi.__version__}.dist-info"}


def test_an_installation_finds_its_migrations(installed: Path) -> None:
    code = "from queueapi.db.migrate import migrations_folder; print(migrations_folder())"
    folder = Path(run_installed(installed, code))
    assert folder == installed / "queueapi" / "migrations"
    shipped = {path.name for path in (folder / "versions").glob("*.py")}
    assert shipped == {path.name for path in (ROOT / "migrations" / "versions").glob("*.py")}
    assert (folder / "env.py").is_file()
    assert (folder / "script.py.mako").is_file()


def test_an_installation_has_the_run_wrapper(installed: Path) -> None:
    code = (
        "from queueapi.executors.local import prepare; print(prepare._WRAPPER, "
        "prepare._WRAPPER.is_file())"
    )
    wrapper = installed / "queueapi" / "executors" / "run_wrapper.sh"
    assert run_installed(installed, code) == f"{wrapper} True"


def test_the_metadata_is_right(installed: Path) -> None:
    info = installed / f"queueapi-{queueapi.__version__}.dist-info"
    metadata = (info / "METADATA").read_text()
    for line in (
        f"Version: {queueapi.__version__}",
        "License-Expression: MIT",
        "Requires-Python: >=3.11",
        "Provides-Extra: embedded",
        "Provides-Extra: redis",
        "Provides-Extra: slurm",
    ):
        assert f"\n{line}\n" in metadata
    assert "queueapi = queueapi.cli.main:main" in (info / "entry_points.txt").read_text()
    assert (info / "licenses" / "LICENSE").is_file()


def names_of(lines: list[str]) -> set[str]:
    """Normalized names of requirements."""
    found = (re.match(r"[A-Za-z0-9._-]+", line) for line in lines)
    return {re.sub(r"[-_.]+", "-", match[0]).lower() for match in found if match}


def test_constraints_pin_all_that_is_asked_for_and_name_no_place() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", pin) for pin in pins)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    for extra in project["project"]["optional-dependencies"].values():
        asked += extra
    assert names_of(asked) <= names_of(pins)


def test_the_version_is_written_alike_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["version"] == queueapi.__version__
    assert f"## [{queueapi.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_links_in_the_documentation_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    assert len(pages) >= 8
    for page in pages:
        for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
            assert link.startswith("https://") or (page.parent / link).exists(), (page, link)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
    return loaded


def test_compose_joins_a_server_and_a_database(compose: dict[str, Any]) -> None:
    assert compose.keys() == {"name", "services", "volumes"}
    server, database = compose["services"]["server"], compose["services"]["database"]
    assert server["depends_on"] == {"database": {"condition": "service_healthy"}}
    assert (ROOT / "docker" / server["build"]["context"]).resolve() == ROOT
    assert (ROOT / server["build"]["dockerfile"]).is_file()
    assert database["container_name"] == "research-queue-db"
    assert database["environment"]["POSTGRES_DB"] == "research_queue"
    assert server["environment"]["DATABASE_URL"].endswith("@database:5432/research_queue")
    version = re.fullmatch(r"postgres:(\d+)-alpine", database["image"])
    assert version is not None
    assert int(version[1]) >= 15
    assert "pg_isready" in database["healthcheck"]["test"]
    mounted = [v.split(":")[0] for s in (server, database) for v in s["volumes"]]
    assert set(mounted) == compose["volumes"].keys()


def test_compose_demands_a_secret_and_is_closed_to_others(compose: dict[str, Any]) -> None:
    environment = compose["services"]["server"]["environment"]
    assert re.fullmatch(r"\$\{JWT_SECRET:\?.+\}", environment["JWT_SECRET"])
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert "privileged" not in service


def test_the_image_is_small_and_not_root() -> None:
    text = (ROOT / "docker" / "Dockerfile").read_text()
    stages = [line for line in text.splitlines() if line.startswith("FROM ")]
    assert len(stages) == 2
    assert all("-slim" in stage for stage in stages)
    last = text.rpartition("FROM ")[2]
    assert re.search(r"^USER (?!root|0)\w+$", last, re.M)
    assert re.search(r'^CMD \["queueapi", "serve"\]$', last, re.M)
    assert re.search(r"^HEALTHCHECK .*(\n.*)*?/health/live", last, re.M)
    assert "QUEUEAPI_HOST=0.0.0.0" in last
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.M):
        assert all((ROOT / name).exists() for name in source.split())
        ignored = (ROOT / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
        assert all(f"!{name}" in ignored for name in source.split())


def test_the_healthcheck_is_valid_python() -> None:
    text = (ROOT / "docker" / "Dockerfile").read_text().replace("\\\n", "")
    command = re.search(r"^HEALTHCHECK .*?CMD (\[.*\])$", text, re.M)
    assert command is not None
    program, flag, code = yaml.safe_load(command[1])
    assert (program, flag) == ("python", "-c")
    compile(code, "healthcheck", "exec")
