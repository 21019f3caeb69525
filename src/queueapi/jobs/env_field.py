"""The environment variables that a job may bring with it."""

from typing import Annotated

from pydantic import AfterValidator, Field, WithJsonSchema

from queueapi.executors.base import LaunchRefused
from queueapi.executors.environment import SHELL_NAMES, check_environment

MAX_ENV_BYTES = 64 * 1024
RESERVED_ENV_PREFIX = "QUEUEAPI_"

EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=200)]
EnvValue = Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=32_768)]


def env_fits(env: dict[str, str]) -> dict[str, str]:
    """Return them if they can reach a job, else raise ValueError."""
    reserved = [name for name in env if name.startswith(RESERVED_ENV_PREFIX)]
    if reserved:
        raise ValueError(f"{reserved[0]} is set by the server; choose another name")
    try:
        check_environment(env)
    except LaunchRefused as error:
        raise ValueError(str(error)) from None
    if sum(len(name) + len(value.encode()) for name, value in env.items()) > MAX_ENV_BYTES:
        raise ValueError(f"the variables are over {MAX_ENV_BYTES} bytes; use input_data")
    return env


# As a map from text to text, which generated clients can type; the names' rule stands beside it.
ENV_SCHEMA = {
    "type": "object",
    "maxProperties": 256,
    "propertyNames": {
        "pattern": f"^(?!{RESERVED_ENV_PREFIX})(?!({'|'.join(sorted(SHELL_NAMES))})$)"
        "[A-Za-z_][A-Za-z0-9_]*$",
        "maxLength": 200,
    },
    "additionalProperties": {"type": "string", "pattern": r"^[^\x00]*$", "maxLength": 32_768},
}
Env = Annotated[
    dict[EnvName, EnvValue],
    Field(max_length=256),
    AfterValidator(env_fits),
    WithJsonSchema(ENV_SCHEMA),
]
