"""The routes of a job's files: its folder, a file, the results as a tar."""

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Header, Path, Query, Response
from fastapi.responses import StreamingResponse

from queueapi import problems
from queueapi.db.session import DatabaseOf
from queueapi.errors import Conflict, Gone, NotFound, RangeNotSatisfiable
from queueapi.jobs.file_schemas import FilePage
from queueapi.jobs.files import RESULT, find_file, find_files, find_result, list_folder
from queueapi.jobs.logs import parse_range
from queueapi.jobs.routes import ExecutorsOf, JobId, Limit, Reader
from queueapi.routing import StrictRoute

router = APIRouter(prefix="/api", tags=["files"], route_class=StrictRoute)

FILE_TYPE = "application/octet-stream"
TAR_TYPE = "application/x-tar"
MAX_PATH = 4096
PROBLEMS = problems.responses(*problems.COMMON, NotFound, Conflict, Gone)
_BYTES: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}

FilePath = Annotated[
    str,
    Path(
        min_length=1,
        max_length=MAX_PATH,
        description="Its path in the folder, as a listing has it",
        examples=["result/out.csv"],
    ),
]
Number = Annotated[int | None, Query(ge=1, le=32_767, description="The latest if absent")]


@router.get(
    "/jobs/{job_id}/files",
    operation_id="list_job_files",
    responses=PROBLEMS,
    summary="What is in a job's folder, while it runs and after",
)
async def list_job_files(
    job_id: JobId,
    principal: Reader,
    database: DatabaseOf,
    executors: ExecutorsOf,
    path: Annotated[
        str, Query(max_length=MAX_PATH, description="A folder in it, such as work/logs")
    ] = "",
    attempt: Number = None,
    limit: Limit = 1000,
    cursor: Annotated[
        str | None, Query(max_length=4000, description="`next` of the page before this one")
    ] = None,
) -> FilePage:
    """There are `work`, where the job runs, and `result`, which $QUEUEAPI_RESULT names."""
    files = await find_files(database, executors, principal, job_id, attempt)
    return await list_folder(files, path, limit, cursor)


@router.get(
    "/jobs/{job_id}/files/{path:path}",
    operation_id="get_job_file",
    response_class=Response,
    responses=problems.responses(*problems.COMMON, NotFound, Conflict, Gone, RangeNotSatisfiable)
    | {
        200: {"description": "The file", "content": {FILE_TYPE: _BYTES}},
        206: {"description": "The range asked for", "content": {FILE_TYPE: _BYTES}},
    },
    summary="A file of a job's folder, or a part of it",
)
async def get_job_file(
    job_id: JobId,
    path: FilePath,
    principal: Reader,
    database: DatabaseOf,
    executors: ExecutorsOf,
    attempt: Number = None,
    range_: Annotated[
        str | None,
        Header(alias="Range", max_length=200, description="One range of bytes: bytes=0-999"),
    ] = None,
) -> Response:
    """As it is now, while the job runs. Links are not followed."""
    found = await find_files(database, executors, principal, job_id, attempt)
    files, where, entry = await find_file(found, path)
    part = parse_range(range_, entry.size)
    start, stop = part or (0, entry.size)
    headers = _attachment(path.rpartition("/")[2]) | {
        "Accept-Ranges": "bytes",
        "Content-Length": str(stop - start),
    }
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{entry.size}"
    return StreamingResponse(
        files.read(where, start, stop),
        status_code=206 if part is not None else 200,
        media_type=FILE_TYPE,
        headers=headers,
    )


@router.get(
    "/jobs/{job_id}/result",
    operation_id="get_job_result",
    response_class=Response,
    responses=PROBLEMS
    | {200: {"description": "A tar, as long as it takes", "content": {TAR_TYPE: _BYTES}}},
    summary="All that a job has put into its result folder, as a tar",
)
async def get_job_result(
    job_id: JobId,
    principal: Reader,
    database: DatabaseOf,
    executors: ExecutorsOf,
    attempt: Number = None,
) -> Response:
    """As it is now, while the job runs. Links are left out. A tar that ends without its two last
    blocks of zeros was cut off."""
    found = await find_files(database, executors, principal, job_id, attempt)
    files = await find_result(found)
    headers = _attachment(f"job-{job_id}-result.tar")
    return StreamingResponse(files.tar(RESULT), media_type=TAR_TYPE, headers=headers)


def _attachment(name: str) -> dict[str, str]:
    """A browser is to store it and not to show it: anything may be in a job's file."""
    return {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        "X-Content-Type-Options": "nosniff",
    }
