"""The server's settings for the commands that need them, with errors for people."""

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from queueapi.cli.commands import Failure
from queueapi.cli.exits import USAGE
from queueapi.config import Settings


def load_settings() -> Settings:
    """From the environment or .env. Raises Failure that names the variables that are wrong."""
    try:
        return Settings()
    except ValidationError as error:
        wrong = "; ".join(_describe(detail) for detail in error.errors())
        raise Failure(f"Settings can't be used: {wrong}.", USAGE) from None


def _describe(detail: ErrorDetails) -> str:
    message = detail["msg"].removeprefix("Value error, ")
    if not detail["loc"]:
        return message
    return f"{variable(str(detail['loc'][0]))}: {message}"


def variable(name: str) -> str:
    """The environment variable of a setting, which pydantic names by field or by variable."""
    field = Settings.model_fields.get(name)
    if field is None:
        return name.upper()
    prefix = str(Settings.model_config.get("env_prefix", ""))
    return str(field.validation_alias or f"{prefix}{name}".upper())
