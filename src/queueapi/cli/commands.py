"""How a function becomes a command of ours: option groups, and errors for people."""

import dataclasses
import functools
import inspect
import os
from collections.abc import Callable
from typing import Any, get_type_hints

import typer
from typer.core import TyperCommand

from queueapi.cli import exits
from queueapi.cli.credentials import CredentialsUnreadable
from queueapi.cli.output import complain
from queueapi.client import QueueApiError

COMMAND_LINE = "queueapi.command_line"  # in a context's meta: what stood after `--`
LOG_IN = "Log in with `queueapi login`, or set QUEUEAPI_TOKEN."


class Failure(Exception):  # noqa: N818
    """A command can't go on; the message is for the user."""

    def __init__(self, message: str, code: int = exits.FAILED) -> None:
        super().__init__(message)
        self.code = code


class Command(TyperCommand):
    """A command whose errors are told to people, and that leaves alone what follows `--`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            args, ctx.meta[COMMAND_LINE] = args[:at], args[at + 1 :]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except QueueApiError as error:
            complain(error, LOG_IN if error.status == 401 else "")
            raise typer.Exit(exits.FAILED) from None
        except (Failure, CredentialsUnreadable) as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(getattr(error, "code", exits.FAILED)) from None
        except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
            raise
        except Exception as error:
            if os.environ.get("QUEUEAPI_DEBUG"):
                raise
            text = f"Error: a fault of ours: {type(error).__name__}: {error}"
            typer.echo(f"{text}\nSet QUEUEAPI_DEBUG=1 to see where.", err=True)
            raise typer.Exit(exits.FAILED) from None


def build(function: Callable[..., None], name: str) -> TyperCommand:
    """The command that runs `function`."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(name, cls=Command)(expand(function))
    command = typer.main.get_command(app)
    assert isinstance(command, TyperCommand)
    return command


def expand(function: Callable[..., None]) -> Callable[..., None]:
    """`function` with each parameter that is a dataclass spread out into options.

    So that options which many commands share are declared once.
    """
    groups: dict[str, type[Any]] = {}
    parameters: list[inspect.Parameter] = []
    hints = get_type_hints(function, include_extras=True)
    for parameter in inspect.signature(function).parameters.values():
        kind = hints[parameter.name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            groups[parameter.name] = kind
            parameters += _options(kind)
        else:
            parameters.append(
                parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY)
            )

    @functools.wraps(function)
    def run(**values: Any) -> None:
        for name, kind in groups.items():
            values[name] = kind(**{f.name: values.pop(f.name) for f in dataclasses.fields(kind)})
        function(**values)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _options(kind: type[Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(kind)
    ]
