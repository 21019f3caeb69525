"""The container that a job may run in."""

from typing import Annotated

from pydantic import Field, Strict

from queueapi.clusters.cluster_schemas import AbsolutePath
from queueapi.fields import Body

Image = Annotated[
    str,
    Field(
        pattern=r"^(/|docker://|oras://|library://)[A-Za-z0-9._/:@+-]+$",
        max_length=500,
    ),
]


class ContainerBind(Body):
    source: AbsolutePath = Field(description="A path on the cluster, of those that it allows")
    target: AbsolutePath = Field(description="Its path in the container")
    writable: Annotated[bool, Strict()] = False


class JobContainer(Body):
    """The script runs in it: it sees its own folder, a private /tmp, and what is bound."""

    image: Image = Field(
        description="A file on the cluster by its absolute path, or docker://, oras://, "
        "library://; the cluster has a list of those that it allows",
        examples=["docker://python:3.12"],
    )
    binds: Annotated[list[ContainerBind], Field(max_length=50)] = Field(default_factory=list)
    gpus: Annotated[bool, Strict()] = Field(
        False, description="With the libraries of the GPUs' driver"
    )
