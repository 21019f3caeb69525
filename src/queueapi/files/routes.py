"""The routes of folders."""

from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from starlette.requests import ClientDisconnect, HTTPConnection

from queueapi import problems
from queueapi.auth.dependencies import require
from queueapi.auth.principal import Principal, Scope
from queueapi.config import Settings, get_settings
from queueapi.db.session import DatabaseOf, Session
from queueapi.errors import (
    Conflict,
    LimitExceeded,
    MalformedRequest,
    NotFound,
    UnsupportedMediaType,
)
from queueapi.fields import Id
from queueapi.files import folders
from queueapi.files.receiving import Uploads
from queueapi.files.schemas import FolderDetail, FolderDocument, FolderPage, FolderQuery, Upload
from queueapi.routing import StrictRoute

router = APIRouter(prefix="/api/folders", tags=["folders"], route_class=StrictRoute)

Reader = Annotated[Principal, Depends(require(Scope.JOBS_READ))]
Writer = Annotated[Principal, Depends(require(Scope.JOBS_WRITE))]
FolderId = Annotated[Id, Path(description="The folder's id")]
# What an archive is, its first bytes say; the type only shows that one is meant.
MEDIA_TYPES: Final = ("application/gzip", "application/x-tar", "application/zip")
_ALSO: Final = ("application/x-gzip", "application/x-zip-compressed", "application/octet-stream")
_BODY: Final = {
    "required": True,
    "description": "A tar, a tar compressed by gzip, or a zip",
    "content": {
        kind: {"schema": {"type": "string", "format": "binary"}}
        for kind in (*MEDIA_TYPES, "application/octet-stream")
    },
}


# Asynchronous, although it waits for nothing: FastAPI runs plain functions in a thread.
async def get_uploads(connection: HTTPConnection) -> Uploads:
    found: Uploads = connection.app.state.uploads
    return found


@router.post(
    "",
    operation_id="upload_folder",
    summary="Upload a folder",
    status_code=201,
    responses=problems.responses(*problems.COMMON, NotFound, LimitExceeded)
    | {200: {"description": "It was there already", "model": FolderDocument}},
    openapi_extra={"requestBody": _BODY},
)
async def upload_folder(
    request: Request,
    principal: Writer,
    database: DatabaseOf,
    settings: Annotated[Settings, Depends(get_settings)],
    uploads: Annotated[Uploads, Depends(get_uploads)],
    wanted: Annotated[Upload, Query()],
    response: Response,
) -> FolderDocument:
    """Code and small files for jobs, packed. A job names it by `executable`. The same files again
    are the same folder, however they are packed. Not taken: paths or links that lead out of the
    folder, devices, and more files or bytes than the operator allows; the answer names the file."""
    sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if sent not in (*MEDIA_TYPES, *_ALSO):
        raise UnsupportedMediaType(
            f"Send the archive as the body, with Content-Type: {' or '.join(MEDIA_TYPES)}."
        )
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("Send the archive as it is, without Content-Encoding.")
    found, is_new = await folders.upload(
        database, settings, uploads, principal, wanted, _body(request)
    )
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/api/folders/{found.id}"
    return found


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect:  # nobody reads the answer; what came is dropped
        raise MalformedRequest("The upload broke off. Send it again.") from None


@router.get(
    "",
    operation_id="list_folders",
    summary="List folders, newest first",
    responses=problems.responses(*problems.COMMON),
)
async def list_folders(
    principal: Reader, session: Session, query: Annotated[FolderQuery, Query()]
) -> FolderPage:
    """Yours, those of your groups, and to administrators all."""
    return await folders.list_folders(session, principal, query)


@router.get(
    "/{folder_id}",
    operation_id="get_folder",
    summary="Read a folder, with the list of its files",
    responses=problems.responses(*problems.COMMON, NotFound),
)
async def get_folder(folder_id: FolderId, principal: Reader, session: Session) -> FolderDetail:
    """Each file with its size and SHA-256."""
    return await folders.get_folder(session, principal, folder_id)


@router.delete(
    "/{folder_id}",
    operation_id="delete_folder",
    summary="Delete a folder",
    status_code=204,
    responses=problems.responses(*problems.COMMON, NotFound, Conflict),
)
async def delete_folder(folder_id: FolderId, principal: Writer, session: Session) -> None:
    """Refused while jobs that name it have not ended. Copies on clusters go when they are not
    used any more."""
    await folders.delete_folder(session, principal, folder_id)
