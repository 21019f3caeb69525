"""The container that a job may run in."""

import shlex
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from queueapi.clusters.cluster_schemas import AbsolutePath
from queueapi.fields import Body, Flag
from queueapi.jobs.env_field import Env, env_fits

MAX_SCRIPT = 1024**2  # characters
# What Apptainer and Singularity take as one word: no comma or colon, which part binds.
_PATH = r"(/[A-Za-z0-9_.@+=~-]+)+"
Image = Annotated[
    str, Field(pattern=rf"^({_PATH}|(docker|oras|library)://[A-Za-z0-9_.:/@-]+)$", max_length=500)
]
BindPath = Annotated[AbsolutePath, Field(pattern=rf"^{_PATH}$")]
Argument = Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=32_768)]


class ContainerBind(Body):
    source: BindPath = Field(description="A path on the cluster, of those that it allows")
    target: BindPath = Field(description="Its path in the container")
    writable: Flag = False


class ContainerDocument(BaseModel):
    """In what a job's script runs."""

    image: str
    binds: list[ContainerBind]
    gpus: bool | None = Field(description="null: as the job has GPUs")


class JobContainer(Body):
    """The script runs in it: it sees its own folder, /job/executable, /job/data and /job/result, a
    /tmp of its own, and what is bound. The image needs a /bin/sh."""

    image: Image = Field(
        description="A file on the cluster by its absolute path, or docker://, oras://, "
        "library://; the cluster has a list of those that it allows",
        examples=["docker://python:3.12"],
    )
    command: list[Argument] | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="A program and its arguments, in place of `script`",
        exclude=True,
    )
    binds: Annotated[list[ContainerBind], Field(max_length=50)] = Field(default_factory=list)
    gpus: Flag | None = Field(
        None, description="With the libraries of the GPUs' driver; if absent, as the job has GPUs"
    )
    env: Env = Field(default_factory=dict, description="More of the job's `env`", exclude=True)

    @property
    def document(self) -> ContainerDocument:
        """As it is read."""
        return ContainerDocument(image=self.image, binds=self.binds, gpus=self.gpus)


def merged(
    container: JobContainer | None, script: str, env: dict[str, str]
) -> tuple[str, dict[str, str]]:
    """A job's script and variables, with what its container says of them.

    Raises ValidationError where they contradict each other, or without a script.
    """
    if container is not None:
        try:
            script = _script(container, script)
            env = _env(container, env)
        except ValueError as error:
            raise _located("container", str(error)) from None
    if not script:
        raise _located("script", "give a script, or a container's command")
    return script, env


def _script(container: JobContainer, script: str) -> str:
    if container.command is None:
        return script
    if script:
        raise ValueError("command: give it or the job's `script`, not both")
    script = f"#!/bin/sh\nexec {shlex.join(container.command)}\n"
    if len(script) > MAX_SCRIPT:
        raise ValueError(f"command: it has more than {MAX_SCRIPT} characters")
    return script


def _env(container: JobContainer, env: dict[str, str]) -> dict[str, str]:
    for name, value in container.env.items():
        if env.get(name, value) != value:
            raise ValueError(f"env: {name} has another value in the job's `env`")
    return env_fits({**env, **container.env})


def _located(place: str, why: str) -> ValidationError:
    error = PydanticCustomError("value_error", "{why}", {"why": f"{why}."})
    lines = [InitErrorDetails(type=error, loc=(place,), input=None)]
    return ValidationError.from_exception_data("JobSubmission", lines)
