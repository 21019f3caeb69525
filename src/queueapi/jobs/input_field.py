"""The JSON that a job may bring with it."""

import json
from typing import Annotated, Any

from pydantic import AfterValidator
from pydantic_core import to_json

MAX_INPUT_BYTES = 1024**2


def _input_fits(value: Any) -> Any:
    if value is None:
        return None
    size = len(to_json(value))
    if size > MAX_INPUT_BYTES:
        raise ValueError(f"input_data is over {MAX_INPUT_BYTES} bytes; let the script fetch it")
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        raise ValueError("input_data holds a number that is too large") from None
    return value


InputData = Annotated[Any, AfterValidator(_input_fits)]
