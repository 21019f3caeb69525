"""Measure a part of the Python standard library. Reads $QUEUEAPI_INPUT: {"part": i, "of": n}.

Prints a JSON line for each module. Needs nothing but the interpreter that runs it.
"""

from __future__ import annotations

import ast
import dis
import io
import json
import os
import sys
import sysconfig
import time
import tokenize
from pathlib import Path
from types import CodeType

SKIPPED = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test"}
BRANCHES = (ast.If, ast.For, ast.While, ast.ExceptHandler, ast.BoolOp, ast.IfExp, ast.comprehension)


def library_files(root: str) -> list[Path]:
    """Every module's file, largest first, so that parts come out about equal."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(set(folders) - SKIPPED)
        found += [Path(folder, name) for name in names if name.endswith(".py")]
    return sorted(found, key=lambda path: (-path.stat().st_size, str(path)))


def instructions(code: CodeType) -> int:
    inner = [c for c in code.co_consts if isinstance(c, CodeType)]
    return sum(1 for _ in dis.get_instructions(code)) + sum(map(instructions, inner))


def measure(path: Path, root: str) -> dict[str, object]:
    started = time.process_time()
    source = path.read_bytes()
    name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
    try:
        tree = ast.parse(source)
        tokens = sum(1 for _ in tokenize.tokenize(io.BytesIO(source).readline))
        size = instructions(compile(source, str(path), "exec", dont_inherit=True))
    except (SyntaxError, ValueError, tokenize.TokenError) as error:
        return {"module": name, "error": str(error)}
    nodes = list(ast.walk(tree))
    functions = [n for n in nodes if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    lengths = [((f.end_lineno or f.lineno) - f.lineno + 1, f.name) for f in functions]
    longest_lines, longest = max(lengths, default=(0, ""))
    return {
        "module": name,
        "lines": source.count(b"\n"),
        "tokens": tokens,
        "functions": len(functions),
        "classes": sum(isinstance(n, ast.ClassDef) for n in nodes),
        "branches": sum(isinstance(n, BRANCHES) for n in nodes),
        "instructions": size,
        "longest": longest,
        "longest_lines": longest_lines,
        "seconds": round(time.process_time() - started, 4),
    }


def main() -> None:
    wanted = json.loads(Path(os.environ["QUEUEAPI_INPUT"]).read_text())
    root = sysconfig.get_paths()["stdlib"]
    mine = library_files(root)[wanted["part"] :: wanted["of"]]
    print(f"{len(mine)} files below {root}", file=sys.stderr)
    for path in mine:
        print(json.dumps(measure(path, root)), flush=True)


main()
