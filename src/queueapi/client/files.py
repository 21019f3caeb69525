"""A job's files: what the server says of them, and how they are fetched."""

from datetime import datetime
from urllib.parse import quote

from queueapi.client._flows import Emit, Flow, Open, Read, failure, recover
from queueapi.client._requests import Answer, Page, Request, _given, _nothing
from queueapi.client._retries import Lost, Retries
from queueapi.client.models import Document


class JobFile(Document):
    """`kind`: file, folder or other. `path` is what it is fetched by."""

    name: str
    path: str
    kind: str
    size: int
    modified_at: datetime


def as_files(found: Page) -> list[JobFile]:
    return [JobFile.model_validate(item) for item in found.items or ()]


def file(job_id: int, path: str, attempt: int | None) -> Request[None]:
    return _bytes(f"/api/jobs/{job_id}/files/{quote(path)}", attempt)


def result(job_id: int, attempt: int | None) -> Request[None]:
    return _bytes(f"/api/jobs/{job_id}/result", attempt)


def _bytes(path: str, attempt: int | None) -> Request[None]:
    return Request("GET", path, _nothing, params=_given(attempt=attempt), repeatable=True)


def download(request: Request[None], patience: float) -> Flow[None]:
    """Emits the bytes of the answer as they come. Once some have come, a lost connection is an
    error: what is there may be another file by then."""
    retries = Retries(patience)
    while True:
        refused: Answer | Lost | None = yield Open(request)
        if refused is None:
            break
        yield from recover(request, refused, retries)
    while True:
        data: bytes | Lost = yield Read()
        if isinstance(data, Lost):
            raise failure(data)
        if not data:
            return
        yield Emit(data)
