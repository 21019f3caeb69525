"""Types of the values that clients send, so that each is checked once and the same way.

PostgreSQL can't store NUL, and control characters in a name only ever mislead a reader, so no
text type here lets them in.
"""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict
from pydantic_core import PydanticCustomError

MAX_ID = 2**63 - 1
PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]*$"
GROUP_NAME = r"^[A-Za-z]([A-Za-z0-9 ._-]{0,98}[A-Za-z0-9])?$"


def _decimal(value: Any) -> Any:
    """Path and query parameters come as text: only plain digits are a number."""
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        raise PydanticCustomError("int_parsing", "Write a whole number in plain digits.")
    return value


# An id in a path or a query.
Id = Annotated[
    int,
    BeforeValidator(_decimal),
    Field(ge=1, le=MAX_ID, json_schema_extra={"format": "int64"}),
]
# An id in a body: a JSON number, not text.
BodyId = Annotated[int, Strict(), Field(ge=1, le=MAX_ID, json_schema_extra={"format": "int64"})]
# How many items a page of a list has.
PageSize = Annotated[int, BeforeValidator(_decimal), Field(ge=1, le=200)]
# One line of text for people: any language, no control characters.
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=PRINTABLE)]
# One line of text that may be empty.
PlainText = Annotated[str, Field(max_length=1000, pattern=PRINTABLE)]
# A group's name: it may become an account or a label elsewhere, and is never taken for an id.
GroupName = Annotated[str, Field(max_length=100, pattern=GROUP_NAME)]
# Where a page of a list begins, as an earlier page's `next` gave it.
Cursor = Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z0-9_=-]*$")]


class Body(BaseModel):
    """Base of what clients send: an unknown field is an error that names it."""

    model_config = ConfigDict(extra="forbid")


class Page(BaseModel):
    """The query of a list."""

    model_config = ConfigDict(extra="forbid")

    limit: PageSize = Field(50, description="How many items at most")
    cursor: Cursor | None = Field(None, description="`next` of the page before")
