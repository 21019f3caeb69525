"""Rewrites a module so that each step that may be its last one asks first: see `instrument`."""

import ast
from typing import Final

# Threads and processes of these do their work by system calls.
SYNCHRONOUS: Final = ("queueapi.executors.local",)
OUTSIDE: Final = {"os", "fcntl", "shutil", "signal", "subprocess", "socket"}
PATH_METHODS: Final = {
    "chmod", "mkdir", "rename", "rmdir", "touch", "unlink", "write_bytes", "write_text",
    "send", "write",
}  # fmt: skip
# Calls that change nothing which anybody else can see. Between two that do, a death is the same
# at every instant, so these would only be the same points again.
HARMLESS: Final = {
    "access", "basename", "fsdecode", "fsencode", "fspath", "fstat", "getegid", "geteuid",
    "getgroups", "gethostname", "getpid", "getppid", "getuid", "join", "listdir", "lstat", "read",
    "readlink", "scandir", "sched_getaffinity", "set_blocking", "set_inheritable", "stat",
    "sysconf", "urandom", "waitstatus_to_exitcode", "which",
}  # fmt: skip


def rewrite(module: str, source: str | bytes) -> ast.Module:
    tree: ast.Module = _Rewriter(module).visit(ast.parse(source))
    return ast.fix_missing_locations(tree)


class _Rewriter(ast.NodeTransformer):
    """Puts calls of the hooks around what may be the last step."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._synchronous = module.startswith(SYNCHRONOUS)

    def _hook(self, name: str, node: ast.expr, *more: ast.expr) -> ast.expr:
        place = f"{self._module}:{node.lineno}:{node.col_offset}"
        call = ast.Call(ast.Name(name, ast.Load()), [ast.Constant(place), *more], [])
        return ast.copy_location(call, node)

    def visit_Await(self, node: ast.Await) -> ast.AST:
        self.generic_visit(node)
        node.value = self._hook("__crash_before__", node.value, node.value)
        return self._hook("__crash_after__", node, node)

    def visit_AsyncWith(self, node: ast.AsyncWith) -> ast.AST:
        self.generic_visit(node)
        for item in node.items:
            item.context_expr = self._hook("__crash_with__", item.context_expr, item.context_expr)
        return node

    def visit_AsyncFor(self, node: ast.AsyncFor) -> ast.AST:
        self.generic_visit(node)
        node.iter = self._hook("__crash_for__", node.iter, node.iter)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if not self._synchronous or not _acts(node.func):
            return node
        before = self._hook("__crash_before__", node, ast.Constant(None))
        after = self._hook("__crash_after__", node, node)
        both = ast.Tuple([before, after], ast.Load())
        last = ast.Subscript(both, ast.Constant(1), ast.Load())
        return ast.copy_location(last, node)


def _acts(function: ast.expr) -> bool:
    if isinstance(function, ast.Name):
        return function.id == "open"
    if not isinstance(function, ast.Attribute) or function.attr in HARMLESS:
        return False
    owner = function.value
    named = isinstance(owner, ast.Name) and owner.id in OUTSIDE
    return (named and function.attr[0].islower()) or function.attr in PATH_METHODS
