"""The data that a job may ask for."""

from typing import Annotated

from pydantic import AfterValidator, Field

from queueapi.executors.data import FORM, Scheme, parse_target
from queueapi.fields import Body


def _target(text: str) -> str:
    parse_target(text)
    return text


class JobData(Body):
    """Fetched where the job runs, before its script begins, into the folder that $QUEUEAPI_DATA
    names. The time that it takes is the job's."""

    target: Annotated[
        str,
        Field(min_length=1, max_length=2000, json_schema_extra={"pattern": FORM}),
        AfterValidator(_target),
    ] = Field(
        description="https://HOST/FILE, git+https://HOST/REPOSITORY@COMMIT, sftp://HOST/PATH, or "
        "path:/PATH on the cluster, which says what hosts and paths it allows; or an uploaded "
        "folder:ID",
        examples=[
            "git+https://github.com/octocat/Hello-World@7fd1a60b01f91b314f59955a4e4d4e80d8edf11d"
        ],
    )


def folders_of(executable: str | None, data: JobData | None) -> dict[str, str]:
    """The uploaded folders of a job, by the pointer to what names them."""
    found = {"/executable": executable} if executable is not None else {}
    if data is not None and parse_target(data.target).scheme is Scheme.FOLDER:
        found["/data/target"] = data.target
    return found
