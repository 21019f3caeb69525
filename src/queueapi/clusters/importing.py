"""Clusters as CyberGIS-Compute lists them, under their names: taken in as they are."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth.principal import Principal
from queueapi.clusters.catalogue import Places, register
from queueapi.clusters.cluster_schemas import (
    AbsolutePath,
    ClusterDocument,
    Host,
    Login,
    NewCluster,
    Passphrase,
    Port,
)
from queueapi.clusters.secrets import Vault
from queueapi.errors import FieldError, Invalid, Problem
from queueapi.fields import Body, Flag

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"


def _have_names(entries: dict[str, "Entry"]) -> dict[str, "Entry"]:
    for name in entries:
        if not re.fullmatch(_NAME, name):
            raise ValueError(f"{name[:110]!r} can't be a cluster's name")
    return entries


class Connector(StrEnum):
    """What runs its jobs; all of ours go to Slurm."""

    SLURM = "SlurmConnector"
    SINGULARITY = "SingularityConnector"


class ExternalKey(BaseModel):
    model_config = ConfigDict(extra="forbid")

    private_key_path: AbsolutePath | None = Field(None, description="On the server")
    passphrase: Passphrase | None = None


class CommunityLogin(BaseModel):
    model_config = ConfigDict(extra="forbid")

    user: Login | None = None
    use_local_key: Flag = Field(True, description="The keys of the server's own account")
    external_key: ExternalKey | None = None


class Entry(BaseModel):
    """What is not known here is left out, and the answer names it."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "ip": "keeling.example.edu",
                    "port": 22,
                    "is_community_account": True,
                    "community_login": {
                        "user": "cybergis",
                        "use_local_key": True,
                        "external_key": {"private_key_path": None, "passphrase": None},
                    },
                    "connector": "SlurmConnector",
                    "root_path": "/tmp",  # noqa: S108 - an example of theirs
                }
            ]
        },
    )

    ip: Host = Field(description="An address or a name")
    port: Port = 22
    is_community_account: Flag = False
    community_login: CommunityLogin | None = None
    connector: Connector = Connector.SLURM
    root_path: AbsolutePath | None = None


class ClusterImport(Body):
    clusters: Annotated[
        dict[str, Entry],
        Field(max_length=100, json_schema_extra={"propertyNames": {"pattern": _NAME}}),
        AfterValidator(_have_names),
    ] = Field(description="By name: the content of their file")


class Imported(BaseModel):
    items: list[ClusterDocument]
    left_out: dict[str, list[str]] = Field(
        description="By cluster, the fields that mean nothing here"
    )


async def register_all(
    session: AsyncSession,
    vault: Vault,
    places: Places,
    principal: Principal,
    entries: Mapping[str, Entry],
) -> Imported:
    """All of them or none. Raises a Problem that names the first one refused."""
    made = []
    for name, entry in entries.items():
        try:
            made.append(await register(session, vault, places, principal, as_new(name, entry)))
        except Problem as problem:
            problem.detail = f"{name}: {problem.detail}"
            raise
    left_out = {name: sorted(entry.model_extra or ()) for name, entry in entries.items()}
    return Imported(items=made, left_out={name: words for name, words in left_out.items() if words})


def as_new(name: str, entry: Entry) -> NewCluster:
    """The same in our words."""
    login = entry.community_login or CommunityLogin()
    key = (login.external_key or ExternalKey()) if not login.use_local_key else ExternalKey()
    if not login.use_local_key and key.private_key_path is None:
        raise Invalid(
            "use_local_key is false, and there is no path of another key.",
            errors=[
                FieldError(
                    f"/clusters/{name}/community_login/external_key/private_key_path",
                    "give the path of the key's file on the server, or let use_local_key be true",
                )
            ],
        )
    return NewCluster(
        name=name,
        kind="slurm",
        host=entry.ip,
        port=entry.port,
        login=login.user,
        key_path=key.private_key_path,
        passphrase=key.passphrase,
        is_community_account=entry.is_community_account,
        root_path=entry.root_path,
    )
