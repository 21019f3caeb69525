"""The scheduler's mind is pure: it imports nothing that could touch the world."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import queueapi.scheduling

PACKAGE = Path(queueapi.scheduling.__file__).parent
MODULES = sorted(PACKAGE.glob("**/*.py"))
PURE = {
    "__future__",
    "bisect",
    "collections",
    "collections.abc",
    "dataclasses",
    "enum",
    "functools",
    "heapq",
    "itertools",
    "math",
    "operator",
    "typing",
}
WORLDLY = {
    "open", "print", "input", "exec", "eval", "compile", "__import__", "breakpoint", "globals",
    "time", "datetime", "random", "secrets", "uuid", "os", "sys", "socket", "logging", "asyncio",
    "threading", "subprocess", "hash", "id", "sleep",
}  # fmt: skip


def impurities(source: str) -> list[str]:
    """Imports outside the allow-list, names of the world, and anything asynchronous."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names):
                found += [each.name for each in names if each.name not in PURE]
            case ast.ImportFrom(module=module, level=level):
                ours = (module or "").startswith("queueapi.scheduling")
                if level or not (ours or module in PURE):
                    found.append(f"{'.' * level}{module}")
            case ast.Name(id=name) if name in WORLDLY:
                found.append(name)
            case ast.AsyncFunctionDef() | ast.Await() | ast.AsyncFor() | ast.AsyncWith():
                found.append("async")
            case ast.Global():
                found.append("global")
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_a_module_of_the_mind_is_pure(module: Path) -> None:
    found = impurities(module.read_text(encoding="utf-8"))
    if module.stem == "model":
        found.remove("hash")  # a value that remembers its own; nothing is sorted by it
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "import random as r",
        "from datetime import datetime",
        "from queueapi.db import session",
        "from . import x",
        "print(1)",
        "def f():\n    return open('x')",
        "async def f(): pass",
    ],
)
def test_the_test_of_purity_sees_impurity(source: str) -> None:
    assert impurities(source)


def test_all_modules_were_looked_at() -> None:
    assert {"scheduler", "cycle", "model"} <= {module.stem for module in MODULES}
