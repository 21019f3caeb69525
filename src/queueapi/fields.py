"""Types of the values that clients send, so that each is checked once and the same way.

PostgreSQL can't store NUL, and control characters in a name only ever mislead a reader, so no
text type here lets them in.
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
)
from pydantic_core import PydanticCustomError

MAX_ID = 2**53 - 1  # every JSON reader keeps integers up to here exactly
PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]*$"
GROUP_NAME = r"^[A-Za-z]([A-Za-z0-9 ._-]{0,98}[A-Za-z0-9])?$"
NOT_WHOLE = PydanticCustomError("int_parsing", "Write a whole number in plain digits.")


def from_text(value: Any) -> Any:
    """Path and query parameters come as text: only plain digits are a number."""
    if isinstance(value, str) and not (value.isascii() and value.isdigit() and len(value) < 20):
        raise NOT_WHOLE
    return value


def from_json(value: Any) -> Any:
    """In a body 5 and 5.0 are the same number, as JSON Schema has it; "5" and true are none."""
    if isinstance(value, bool | str):
        raise NOT_WHOLE
    return value


# Constraints come first in each of these: only so do they reach the OpenAPI document.
_ID = Field(ge=1, le=MAX_ID, json_schema_extra={"format": "int64"})
# An id in a path or a query, and one in a body.
Id = Annotated[int, _ID, BeforeValidator(from_text)]
BodyId = Annotated[int, _ID, BeforeValidator(from_json)]
# JSON's numbers: 4.0 is whole; "4" and true are no numbers.
Whole = Annotated[int, BeforeValidator(from_json)]
Real = Annotated[float, Strict()]
Flag = Annotated[bool, Strict()]
# A word that is safe as part of a name elsewhere: of a file, a label, an option.
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=50)]
# How many items a page of a list has.
PageSize = Annotated[int, Field(ge=1, le=200), BeforeValidator(from_text)]
# One line of text for people: any language, no control characters.
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=PRINTABLE)]
# A group's name: it may become an account or a label elsewhere, and is never taken for an id.
GroupName = Annotated[str, Field(max_length=100, pattern=GROUP_NAME)]
# A queue's name; it stands in paths.
QueueName = Annotated[str, Field(max_length=50, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
# Where a page of a list begins, as an earlier page's `next` gave it.
Cursor = Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z0-9_=-]*$")]


def _written_out(value: Any) -> Any:
    """A bare number is an instant to pydantic; to people it is a mistake."""
    if not isinstance(value, str) or not re.match(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d", value):
        raise ValueError("write an instant with its zone, as in 2026-11-20T09:30:00Z")
    return value


def _in_utc(when: datetime) -> datetime:
    try:
        return when.astimezone(UTC)
    except OverflowError:
        raise ValueError("no calendar has this instant in UTC") from None


Instant = Annotated[AwareDatetime, BeforeValidator(_written_out), AfterValidator(_in_utc)]


class Body(BaseModel):
    """Base of what clients send: an unknown field is an error that names it."""

    model_config = ConfigDict(extra="forbid")


class Page(BaseModel):
    """The query of a list."""

    model_config = ConfigDict(extra="forbid")

    limit: PageSize = Field(50, description="How many items at most")
    cursor: Cursor | None = Field(None, description="`next` of the page before")
