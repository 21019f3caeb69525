"""Types of the amounts that a job asks for, and their bounds."""

from typing import Annotated, Final

from pydantic import BeforeValidator, Field, Strict

from queueapi.fields import from_json

MAX_NODES: Final = 4096
MAX_TASKS: Final = 1_000_000
MAX_CPUS: Final = 4096  # on one node, as are the next two
MAX_MEMORY_GB: Final = 65_536
MAX_GPUS: Final = 64
_FEATURE: Final = "[A-Za-z0-9][A-Za-z0-9._-]*"
_ALL_OF: Final = f"{_FEATURE}(&{_FEATURE})*"

Nodes = Annotated[int, Field(ge=1, le=MAX_NODES), BeforeValidator(from_json)]
Tasks = Annotated[int, Field(ge=1, le=MAX_TASKS), BeforeValidator(from_json)]
Cpus = Annotated[int, Field(ge=1, le=MAX_CPUS), BeforeValidator(from_json)]
Gpus = Annotated[int, Field(ge=0, le=MAX_GPUS), BeforeValidator(from_json)]
Gigabytes = Annotated[float, Field(gt=0, le=MAX_MEMORY_GB, allow_inf_nan=False), Strict()]
Features = Annotated[str, Field(pattern=rf"^{_ALL_OF}(\|{_ALL_OF})*$", max_length=500)]
