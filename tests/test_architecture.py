"""Who may import whom, and other rules of the layout, held by reading the source.

Each part of `queueapi` (a package or a single module below it) stands in one layer. It may import
from the layers below it, and from its own layer as far as RULES allow and no circle comes of it.
A new part fails here until it is given a place.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import queueapi

LAYERS = (
    # Puts the parts together; the command line; the demonstration.
    {"main", "cli", "demo", "__main__"},
    # What a client meets: routers and errors, the document, the outermost layer of a request,
    # liveness. Beside it what drives the scheduler: its loop, and the simulator.
    {"api", "openapi", "access", "health", "controller", "simulate"},
    # The domains.
    {"jobs", "groups", "clusters", "queues", "servers", "doctor", "files"},
    # Who asks, and what they may do.
    {"auth"},
    # The scheduler's mind. The adapters to clusters.
    {"scheduling", "executors"},
    # What all stand on: settings, the database, errors and how they look (problems), the clock,
    # checked types (fields), lists (paging), strict JSON (routing), metrics, logging.
    # The client library stands apart: it is what other people's programs import.
    {"config", "db", "errors", "problems", "clock", "fields", "paging", "routing", "metrics"}
    | {"logs", "client"},
)
RULES = {
    "api": "never imports the controller: the API asks it through a Protocol",
    "executors": "know neither the database nor any domain nor each other",
    "scheduling": "imports itself, the pure part of the standard library and NumPy",
    "client": "imports nothing else of ours",
}
FACES = LAYERS[1] - {"controller", "simulate"}
STRANGERS = [(FACES, {"controller"}), ({"executors"}, {"scheduling", "db"})]
ALONE = {"scheduling", "client"}
# In `executors`, what all kinds share; everything else there is one kind.
SHARED_BY_EXECUTORS = {"accounts", "base", "data", "environment", "files", "offer", "placing"}
SHARED_BY_EXECUTORS |= {"registry", "remote", "tars"}
COMPOSITION_ROOT = "queueapi.main"  # alone in knowing which kinds there are
PURE = {
    "__future__",
    "abc",
    "bisect",
    "collections",
    "dataclasses",
    "enum",
    "fractions",
    "functools",
    "heapq",
    "itertools",
    "math",
    "numpy",
    "operator",
    "typing",
}
# Started without site-packages, once per job.
BARE = "queueapi.executors.local.child"

WRITER_OF_STATE = "queueapi.jobs.lifecycle"
MAX_FILE = 400  # lines
MAX_FUNCTION = 60
FORBIDDEN_FILES = {"service", "crud", "repository", "utils", "helpers", "common", "misc"}
FORBIDDEN_SUFFIXES = ("Manager", "Helper", "Util", "Utils", "Handler", "Processor", "Service")

PACKAGE = Path(queueapi.__file__).parent
Sources = Mapping[str, str]  # source by module name; a package's is its __init__'s


def read_sources() -> dict[str, str]:
    sources = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("queueapi", *path.relative_to(PACKAGE).with_suffix("").parts)
        name = ".".join(parts).removesuffix(".__init__")
        sources[name] = path.read_text(encoding="utf-8")
    return sources


# ---- reading ----


def imported(tree: ast.AST, known: Sources) -> Iterator[str]:
    """Names of the modules that a tree imports; an object counts as the module it is in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for alias in node.names:
                whole = f"{module}.{alias.name}"
                is_part = module == "queueapi" and part(whole) in ALL_PARTS
                yield whole if whole in known or is_part else module


def part(module: str) -> str:
    """queueapi.jobs.routes → jobs; empty for the package itself and for what is not ours."""
    name = module.split(".")
    return name[1] if name[0] == "queueapi" and len(name) > 1 else ""


ALL_PARTS = set().union(*LAYERS)
LAYER_OF = {name: number for number, layer in enumerate(LAYERS) for name in layer}


def edges(sources: Sources) -> Iterator[tuple[str, str]]:
    """(importer, imported), modules of ours."""
    for module, source in sources.items():
        for target in imported(ast.parse(source), sources):
            if target.split(".")[0] == "queueapi":
                yield module, target


# ---- the rules: each gives what is wrong, in words ----


def import_violations(sources: Sources) -> list[str]:
    found = [f"{m}: {part(m)} has no layer" for m in sources if part(m) and part(m) not in LAYER_OF]
    if found:
        return found
    for module, target in edges(sources):
        one, other = part(module), part(target)
        if not other or one == other or module == "queueapi":
            continue
        if other not in LAYER_OF:
            found.append(f"{module} imports {target}, which has no layer")
        elif LAYER_OF[other] < LAYER_OF[one]:
            found.append(f"{module} imports {target}, from a layer above its own")
        elif one in ALONE:
            found.append(f"{module} imports {target}: {one} {RULES[one]}")
        elif any({one, other} & a and {one, other} & b for a, b in STRANGERS):
            found.append(f"{module} imports {target}: {one} and {other} are strangers")
    return found + kind_violations(sources)


def kind_violations(sources: Sources) -> list[str]:
    """Kinds of executors know only themselves, and only the composition root knows them."""
    found = []
    for module, target in edges(sources):
        kind = target.split(".")[2] if target.startswith("queueapi.executors.") else ""
        own = module.split(".")[2] if module.startswith("queueapi.executors.") else ""
        if kind and kind not in SHARED_BY_EXECUTORS | {own} and module != COMPOSITION_ROOT:
            found.append(f"{module} imports the executor {target}")
    return found


def circles(sources: Sources) -> list[str]:
    """Between modules, and between parts."""
    found = []
    modules: dict[str, set[str]] = {}
    parts: dict[str, set[str]] = {}
    for module, target in edges(sources):
        if target in sources and "queueapi" not in (module, target):
            modules.setdefault(module, set()).add(target)
            if part(module) != part(target):
                parts.setdefault(part(module), set()).add(part(target))
    for graph in (modules, parts):
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            found.append(" → ".join(error.args[1]))
    return found


def foreign_imports(sources: Sources, package: str, allowed: set[str]) -> list[str]:
    """Imports in `package` of anything else but these top-level modules."""
    return [
        f"{module} imports {target}"
        for module, source in sources.items()
        if f"{module}.".startswith(f"{package}.")
        for target in imported(ast.parse(source), sources)
        if not f"{target}.".startswith(f"{package}.") and target.split(".")[0] not in allowed
    ]


def late_or_relative_imports(sources: Sources) -> list[str]:
    found = []
    for module, source in sources.items():
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                ours = [t for t in imported(node, sources) if t.split(".")[0] == "queueapi"]
                found += [f"{module}.{node.name} imports {target} when called" for target in ours]
            elif isinstance(node, ast.ImportFrom) and node.level:
                found.append(f"{module} has a relative import")
    return found


def length_violations(sources: Sources) -> list[str]:
    found = []
    for module, source in sources.items():
        lines = len(source.splitlines())
        if lines > MAX_FILE:
            found.append(f"{module} has {lines} lines")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION:
                    found.append(f"{module}.{node.name} has {lines} lines")
    return found


def name_violations(sources: Sources) -> list[str]:
    found = [m for m in sources if m.split(".")[-1] in FORBIDDEN_FILES]
    for module, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef) and node.name.endswith(FORBIDDEN_SUFFIXES):
                found.append(f"{module}.{node.name}")
    return found


_UPDATE = re.compile(
    r"\bUPDATE\s+(?:ONLY\s+)?jobs\b.*?\bSET\b(.*?)(?:\bFROM\b|\bWHERE\b|;|$)", re.I | re.S
)
_INSERT = re.compile(r"\bINSERT\s+INTO\s+jobs\b[^(]*\(([^)]*)\)", re.I | re.S)


def state_writers(sources: Sources) -> list[str]:
    """Where a job's state is written, by SQL or through the ORM, besides the one place for it."""
    return [
        f"{module}, line {node.lineno}"
        for module, source in sources.items()
        if module != WRITER_OF_STATE
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.expr | ast.stmt) and writes_state(node)
    ]


def writes_state(node: ast.AST) -> bool:
    match node:
        case ast.Constant(value=str(words)):
            updated = any(re.search(r"\bstate\s*=", m[1]) for m in _UPDATE.finditer(words))
            return updated or any(re.search(r"\bstate\b", m[1]) for m in _INSERT.finditer(words))
        case ast.Assign(targets=targets):
            return any(is_state_of_another(target) for target in targets)
        case ast.AugAssign(target=target) | ast.AnnAssign(target=target):
            return is_state_of_another(target)
        case ast.Call(func=ast.Name(id="setattr"), args=[_, ast.Constant(value="state"), _]):
            return True
        case ast.Call(func=ast.Name(id="Job"), keywords=keywords):
            return any(k.arg == "state" for k in keywords)
        case ast.Call(func=ast.Attribute(attr="values"), keywords=keywords, args=arguments):
            about_jobs = re.search(r"\b(update|insert)\((\w+\.)?Job\b", ast.unparse(node))
            named = [k.arg for k in keywords]
            for argument in arguments:
                named += re.findall(r"'(\w+)':|\bJob\.(\w+):", ast.unparse(argument))
            return about_jobs is not None and any("state" in (n or "") for n in named)
    return False


def is_state_of_another(target: ast.expr) -> bool:
    match target:
        case ast.Attribute(attr="state", value=ast.Name(id=owner)):
            return owner != "self"
        case ast.Attribute(attr="state"):
            return True
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            return any(is_state_of_another(element) for element in elements)
    return False


# ---- the code keeps them ----

SOURCES = read_sources()


def test_every_part_was_read() -> None:
    assert {"queueapi.main", "queueapi.jobs.lifecycle", "queueapi.scheduling"} <= SOURCES.keys()
    assert len(list(edges(SOURCES))) > 300


def test_imports_point_down() -> None:
    assert import_violations(SOURCES) == []


def test_no_imports_go_in_a_circle() -> None:
    assert circles(SOURCES) == []


def test_the_scheduler_imports_only_what_is_pure() -> None:
    assert foreign_imports(SOURCES, "queueapi.scheduling", PURE) == []


def test_what_runs_beside_the_server_needs_the_standard_library_alone() -> None:
    assert foreign_imports(SOURCES, BARE, set(sys.stdlib_module_names)) == []


def test_our_own_code_is_imported_at_the_top_and_by_its_full_name() -> None:
    assert late_or_relative_imports(SOURCES) == []


def test_files_and_functions_are_short() -> None:
    assert length_violations(SOURCES) == []


def test_names_say_what_a_thing_is() -> None:
    assert name_violations(SOURCES) == []


def test_one_file_writes_the_state_of_jobs() -> None:
    assert state_writers(SOURCES) == []
    assert state_writers({"elsewhere": SOURCES[WRITER_OF_STATE]})


# ---- and these tests see it when it does not ----


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("auth.logins", "from queueapi.jobs.models import Job"),
        ("auth.logins", "from queueapi import api"),
        ("jobs.routes", "import queueapi.controller.loop"),
        ("jobs.routes", "from queueapi.controller import loop"),
        ("api", "from queueapi.controller.view import SchedulerView"),
        ("health", "from queueapi.controller.loop import Controller"),
        ("controller.loop", "from queueapi.health import router"),
        ("config", "from queueapi.auth.tokens import issue"),
        ("groups.usage", "if True:\n    from queueapi.main import create_app"),
        ("executors.local.executor", "from queueapi.db.session import Database"),
        ("executors.null", "from queueapi.jobs.models import Job"),
        ("executors.null", "from queueapi.executors.local import LocalExecutor"),
        ("executors.base", "from queueapi.executors.null import NullExecutor"),
        ("executors.null", "from queueapi.scheduling.model import Node"),
        ("controller.launcher", "from queueapi.executors.local import LocalExecutor"),
        ("jobs.logs", "from queueapi.executors.local.logs import read_log"),
        ("scheduling.cycle", "from queueapi.executors.base import Executor"),
        ("scheduling.cycle", "from queueapi.errors import Problem"),
        ("client.session", "from queueapi.config import Settings"),
        ("warehouse", "x = 1"),
        ("jobs.routes", "from queueapi.warehouse import x"),
        ("api", "from queueapi import controller"),
    ],
)
def test_a_forbidden_import_is_seen(module: str, source: str) -> None:
    assert import_violations({f"queueapi.{module}": source})


def test_an_allowed_import_is_let_pass() -> None:
    source = (
        "from queueapi import __version__, problems\nfrom queueapi.groups.models import Group\n"
        "from queueapi.executors.base import Stream\nimport asyncio"
    )
    assert import_violations({"queueapi.jobs.query": source}) == []


@pytest.mark.parametrize(
    "sources",
    [
        {
            "queueapi.jobs.a": "from queueapi.groups.b import x",
            "queueapi.groups.b": "",
            "queueapi.groups.c": "from queueapi.jobs.d import y",
            "queueapi.jobs.d": "",
        },
        {
            "queueapi.jobs.a": "from queueapi.jobs import b",
            "queueapi.jobs.b": "from queueapi.jobs.a import x",
        },
    ],
)
def test_a_circle_is_seen(sources: Sources) -> None:
    assert circles(sources)


def test_worldly_imports_of_the_scheduler_are_seen() -> None:
    for source in ("import time", "from asyncio import sleep", "from queueapi.clock import now"):
        sources = {"queueapi.scheduling.x": source, "queueapi.clock": ""}
        assert foreign_imports(sources, "queueapi.scheduling", PURE)


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    from queueapi.jobs import models",
        "async def f():\n    import queueapi.main",
        "class A:\n    def f(self):\n        if True:\n            from queueapi import api",
        "from . import models",
        "from ..errors import Problem",
    ],
)
def test_a_late_or_relative_import_is_seen(source: str) -> None:
    assert late_or_relative_imports({"queueapi.jobs.x": source})


def test_length_is_seen() -> None:
    assert length_violations({"queueapi.x": "x = 1\n" * (MAX_FILE + 1)})
    assert length_violations({"queueapi.x": "def f():\n" + "    x = 1\n" * MAX_FUNCTION})
    assert not length_violations({"queueapi.x": "x = 1\n" * MAX_FILE})


def test_a_forbidden_name_is_seen() -> None:
    assert name_violations({"queueapi.jobs.utils": ""})
    assert name_violations({"queueapi.jobs.service": ""})
    assert name_violations({"queueapi.jobs.x": "class JobManager: ..."})
    assert not name_violations({"queueapi.jobs.submit": "class Submission: ..."})


@pytest.mark.parametrize(
    "source",
    [
        "job.state = 'queued'",
        "row.job.state = x",
        "a, job.state = 1, 2",
        "setattr(job, 'state', x)",
        "text('UPDATE jobs SET version = 2, state = :s WHERE id = 1')",
        "text('''update jobs j\n set state=$1''')",
        "text('INSERT INTO jobs (id, state) VALUES (1, 2)')",
        "update(Job).where(Job.id == 1).values(state='failed')",
        "update(models.Job).values({'state': 'failed'})",
        "insert(Job).values({Job.state: 'failed'})",
        "Job(user_id=1, state='failed')",
    ],
)
def test_a_second_writer_of_state_is_seen(source: str) -> None:
    assert state_writers({"queueapi.jobs.x": source})


@pytest.mark.parametrize(
    "source",
    [
        "if job.state == 'queued': pass",
        "app.state.settings = x",
        "self.state = x",
        "text('UPDATE jobs SET held = true WHERE state = :s')",
        "text('UPDATE attempts SET state = 1')",
        "update(Job).values(held=True)",
        "JobEvent(job_id=1, state=x)",
        "Job(user_id=1)",
    ],
)
def test_what_only_reads_the_state_is_let_pass(source: str) -> None:
    assert not state_writers({"queueapi.jobs.x": source})
