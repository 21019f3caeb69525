"""`openapi`: the API's document, as the repository's openapi.json holds it."""

import json
import secrets
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from queueapi.cli.commands import Failure
from queueapi.config import Settings
from queueapi.main import create_app
from queueapi.openapi import as_3_0


class Version(StrEnum):
    V3_1 = "3.1"
    V3_0 = "3.0"


class DocumentSettings(Settings):
    """What an application needs in order to describe itself; nothing from the environment."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *sources: Any, **named: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (named["init_settings"],)


def openapi(
    version: Annotated[Version, typer.Option(help="Of OpenAPI")] = Version.V3_1,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file; standard output if absent")
    ] = None,
) -> None:
    """Write the API's OpenAPI document."""
    settings = DocumentSettings(
        database_url="postgresql://localhost/none", jwt_secret=secrets.token_hex(32)
    )
    document = create_app(settings).openapi()
    if version is Version.V3_0:
        document = as_3_0(document)
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text)
    except OSError as error:
        raise Failure(f"{output}: {error.strerror}") from None
