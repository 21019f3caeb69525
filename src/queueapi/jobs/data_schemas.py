"""The data that a job may ask for."""

from typing import Annotated

from pydantic import AfterValidator, Field

from queueapi.executors.data import parse_target
from queueapi.fields import Body


def _target(text: str) -> str:
    parse_target(text)
    return text


class JobData(Body):
    """Fetched where the job runs, before its script begins, into the folder that $QUEUEAPI_DATA
    names. The time that it takes is the job's."""

    target: Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(_target)] = Field(
        description="https://HOST/FILE, git+https://HOST/REPOSITORY@COMMIT, sftp://HOST/PATH, or "
        "path:/PATH on the cluster; it says which hosts and paths it allows",
        examples=[
            "git+https://github.com/octocat/Hello-World@7fd1a60b01f91b314f59955a4e4d4e80d8edf11d"
        ],
    )
