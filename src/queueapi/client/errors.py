"""What goes wrong, as one exception with the server's problem document in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One wrong value: `pointer` is a JSON pointer or a parameter's name."""

    pointer: str
    message: str


class QueueApiError(Exception):
    """The server refused, with a problem document (RFC 9457); its parts are attributes."""

    def __init__(self, status: int, document: Mapping[str, Any], retry_after: float | None) -> None:
        self.document = dict(document)
        self.status = status
        self.type = str(document.get("type") or "about:blank")
        self.title = str(document.get("title") or f"The server answered {status}")
        self.detail = str(document.get("detail") or "")
        self.instance = str(document["instance"]) if document.get("instance") else None
        self.retry_after = retry_after  # seconds
        found = document.get("errors")
        self.errors = tuple(
            FieldProblem(str(error.get("pointer", "")), str(error.get("message", "")))
            for error in (found if isinstance(found, list) else ())
            if isinstance(error, dict)
        )
        super().__init__(f"{self.title}: {self.detail}" if self.detail else self.title)


class ServerUnreachable(QueueApiError):  # noqa: N818 - an answer, as it were
    """No answer came. `status` is 0."""

    def __init__(self, url: str, why: str) -> None:
        detail = f"{url}: {why}. Check the address, and whether the server runs."
        super().__init__(0, {"title": "The server can't be reached", "detail": detail}, None)


class NotAQueueApi(QueueApiError):  # noqa: N818
    """Something answered, but not as a queueapi server does."""

    def __init__(self, status: int, url: str, why: str) -> None:
        detail = f"{url} answered {status}, but {why}. Is this a queueapi server's address?"
        super().__init__(status, {"title": "The answer can't be read", "detail": detail}, None)
