"""What a submit answers."""

from pydantic import Field

from queueapi.client.models import Job


class SubmittedJob(Job):
    warnings: list[str] = Field(default_factory=list)  # what has no effect, in words
