"""Starts the fork server: ``python -I -S boot.py SOCKET_FD``.

The packages above ``child`` are entered by hand, without running their
``__init__``: those may import anything, and a fork server must stay small.
"""

import importlib
import sys
import types

_DEPTH = 4  # of the packages: queueapi / executors / local / child


def _enter_packages(here: str) -> str:
    folders = here.split("/")
    for depth in range(_DEPTH):
        end = len(folders) - (_DEPTH - 1 - depth)
        name = ".".join(folders[len(folders) - _DEPTH : end])
        package = types.ModuleType(name)
        package.__path__ = ["/".join(folders[:end])]
        sys.modules[name] = package
    return ".".join(folders[-_DEPTH:])


if __name__ == "__main__":
    importlib.import_module(_enter_packages(__file__.rpartition("/")[0]) + ".forkserver").main(
        int(sys.argv[1])
    )
