"""Commands that are imported when they are called, so that each starts with what it needs."""

import gc
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from typer.core import TyperCommand, TyperGroup

from queueapi.cli.commands import build


@dataclass(frozen=True, slots=True)
class Lazy:
    """`target`: module:function. `help` is the first line of the function's docstring."""

    target: str
    help: str


class LazyCommand(TyperCommand):
    """Stands for a command until it is called."""

    def __init__(self, name: str, lazy: Lazy) -> None:
        super().__init__(name, help=lazy.help, rich_markup_mode=None)
        self._lazy = lazy

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
        return self.load().make_context(info_name, args, parent=parent, **extra)

    def load(self) -> TyperCommand:
        module, _, function = self._lazy.target.partition(":")
        # What modules make as they load stays. To look for garbage in it, meanwhile and ever after,
        # takes a third of the time in which the server starts.
        gc.disable()
        try:
            loaded = import_module(module)
        finally:
            gc.freeze()
            gc.enable()
        return build(getattr(loaded, function), self.name or function)


def lazy_group(commands: Mapping[str, Lazy]) -> type[TyperGroup]:
    """A group of such commands, in this order and before any others."""

    class LazyGroup(TyperGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            others = dict(self.commands)
            self.commands = {name: LazyCommand(name, lazy) for name, lazy in commands.items()}
            self.commands.update(others)

    return LazyGroup
