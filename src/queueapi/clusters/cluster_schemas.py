"""The documents that the cluster routes take and give."""

import base64
import binascii
import hashlib
import re
from datetime import datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    Strict,
    StringConstraints,
)

from queueapi.auth.schemas import Email
from queueapi.clusters.models import ClusterState
from queueapi.clusters.schemas import ClusterName, WhyNotUp
from queueapi.fields import PRINTABLE, Body, Flag, GroupName, from_json

_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
_BASE64 = r"(?:[A-Za-z0-9+/]{4}){10,3000}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
_PUBLIC_KEY = re.compile(rf"(?:ssh|ecdsa|sk)-[A-Za-z0-9@.-]+ ({_BASE64})( .*)?")


def _fingerprint(value: str) -> str:
    """As OpenSSH prints it, of a fingerprint or of a line of a public key."""
    value = value.strip()
    if _FINGERPRINT.fullmatch(value):
        return value
    if key := _PUBLIC_KEY.fullmatch(value):
        try:
            blob = base64.b64decode(key[1], validate=True)
        except binascii.Error:
            pass
        else:
            digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
            return f"SHA256:{digest}"
    raise ValueError(
        "give a fingerprint as ssh-keygen -lf prints it (SHA256:...), or a public key's line"
    )


def _in_order(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))


_WORD = r"^[a-z][a-z0-9_]{0,49}$"


def _are_words(options: dict[str, Any]) -> dict[str, Any]:
    for name in options:
        if not re.fullmatch(_WORD, name):
            raise ValueError(f"{name[:60]!r} is not a word of small letters, digits and _")
    return options


_PRIVATE_KEY = r"^-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----\s"


def _is_private_key(secret: SecretStr) -> SecretStr:
    if not re.match(_PRIVATE_KEY, secret.get_secret_value()):
        raise ValueError("it does not begin as a private key does: -----BEGIN ... PRIVATE KEY-----")
    return secret


def _no_control(secret: SecretStr) -> SecretStr:
    if not re.search(PRINTABLE, secret.get_secret_value()):
        raise ValueError("it holds a control character")
    return secret


Kind = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=20)]
Host = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?$", min_length=1, max_length=255)
]
Port = Annotated[int, Field(ge=1, le=65_535), BeforeValidator(from_json)]
Login = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9._-]*$", max_length=64)]
# An absolute path without "..", of letters that need no quoting anywhere.
AbsolutePath = Annotated[
    str, Field(pattern=r"^(/(\.?[A-Za-z0-9_+@=-][A-Za-z0-9._+@=-]*))+/?$", max_length=1000)
]
RootPath = Annotated[
    str,
    Field(
        pattern=r"^(/(%u|\.?[A-Za-z0-9_+@=-][A-Za-z0-9._+@=-]*))+/?$",
        max_length=1000,
    ),
]
PrivateKey = Annotated[
    SecretStr,
    Field(max_length=20_000, json_schema_extra={"pattern": _PRIVATE_KEY}),
    AfterValidator(_is_private_key),
]
Passphrase = Annotated[
    SecretStr,
    Field(min_length=1, max_length=1000, json_schema_extra={"pattern": PRINTABLE}),
    AfterValidator(_no_control),
]
HostKey = Annotated[
    str,
    StringConstraints(max_length=16_500),
    Field(json_schema_extra={"pattern": rf"^({_FINGERPRINT.pattern}|{_PUBLIC_KEY.pattern})$"}),
    AfterValidator(_fingerprint),
]
HostKeys = Annotated[list[HostKey], Field(max_length=20), AfterValidator(_in_order)]
Partition = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
Partitions = Annotated[list[Partition], Field(max_length=100), AfterValidator(_in_order)]
SiteWord = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:,@/=-]*$", max_length=200)]
# Paths with colons between, patterns of images, ...: each kind checks its own.
Text = Annotated[str, Field(pattern=r"^[A-Za-z0-9/*][A-Za-z0-9._:,@/=*+-]*$", max_length=1000)]
Option = bool | int | float | Text
Options = Annotated[
    dict[str, Option | Annotated[list[Text], Field(max_length=200)] | dict[str, Text]],
    Field(max_length=50, json_schema_extra={"propertyNames": {"pattern": _WORD}}),
    AfterValidator(_are_words),
]
EmailPattern = Annotated[
    str,
    Field(max_length=254, pattern=r"^[A-Za-z0-9._+*?-]+@[A-Za-z0-9.*?-]+$"),
    AfterValidator(str.lower),
]
Amount = Annotated[int, Field(ge=0, le=1_000_000), BeforeValidator(from_json)]
Size = Annotated[float, Strict(), Field(gt=0, le=1_000_000, allow_inf_nan=False)]

STATE = (
    "up; drain: starts nothing new, what runs goes on; down: out of use, no job may name it either"
)
ALLOW = "Whose jobs it takes; where nobody is named, everybody's"
DENY = "Whose jobs it does not take, also where allow names them"


class NewCaps(Body):
    """The most that one job may ask for. What is absent or null is the default."""

    nodes: Amount | None = Field(None, description="Default: 50")
    tasks: Amount | None = Field(None, description="Over all nodes. Default: 50")
    cpus_per_task: Amount | None = Field(None, description="Default: 50")
    gpus: Amount | None = Field(None, description="Over all nodes. Default: 20")
    memory_gb: Size | None = Field(None, description="On each node. Default: 50")
    memory_per_cpu_gb: Size | None = Field(None, description="Of jobs without GPUs. Default: 10")
    memory_per_gpu_gb: Size | None = Field(None, description="Default: 10")
    hours: Size | None = Field(None, description="Default: 10")


class CapsDocument(BaseModel):
    """The caps that hold. null: none, as on the server's own machine unless they are given."""

    nodes: float | None
    tasks: float | None
    cpus_per_task: float | None
    gpus: float | None
    memory_gb: float | None
    memory_per_cpu_gb: float | None
    memory_per_gpu_gb: float | None
    hours: float | None


class SiteDefaults(Body):
    """What jobs get that do not say it themselves."""

    partition: Partition | None = None
    account: SiteWord | None = None
    qos: SiteWord | None = None


class People(Body):
    """Patterns of e-mail addresses, accounts by address, groups by name.

    A group's are the jobs that are charged to it.
    """

    emails: Annotated[list[EmailPattern], Field(max_length=100)] = Field(
        default_factory=list, examples=[["*@lab.edu"]]
    )
    users: Annotated[list[Email], Field(max_length=1000)] = Field(default_factory=list)
    groups: Annotated[list[GroupName], Field(max_length=1000)] = Field(default_factory=list)


class ClusterFields(Body):
    """What may be said of a cluster, beside its name and kind."""

    state: ClusterState | None = Field(None, description=STATE)
    reason: WhyNotUp | None = Field(
        None, description="Why it is not up; people whose jobs wait see it", examples=["upgrade"]
    )
    host: Host | None = Field(
        None, description="Its login node; null: this machine, without SSH", examples=["hpc.lab"]
    )
    port: Port | None = Field(None, description="22 if absent")
    login: Login | None = Field(None, description="The account there", examples=["queueapi"])
    key_path: AbsolutePath | None = Field(
        None, description="A private key's file on the server. Give this or private_key, not both"
    )
    private_key: PrivateKey | None = Field(
        None, description="A private key's text. It is stored encrypted and never shown"
    )
    passphrase: Passphrase | None = Field(None, description="Of the key; stored likewise")
    host_keys: HostKeys | None = Field(
        None,
        description="The keys that the host may show: fingerprints (SHA256:...), or lines of "
        "public keys. Without one nothing is sent there; `test` shows what the host has",
        examples=[["SHA256:uNiVztksCsDhcc0u9e8BrrJXVGDEgYUyCpRiLVjx9vU"]],
    )
    root_path: RootPath | None = Field(
        None,
        description="The folder for jobs there; `%u` in it is the account, with user_accounts",
        examples=["/scratch/queueapi"],
    )
    partitions: Partitions | None = Field(
        None, description="That jobs may name; none of them named means all"
    )
    defaults: SiteDefaults | None = None
    caps: NewCaps | None = None
    is_community_account: Flag | None = Field(
        None,
        description="Everybody's jobs run there under one account, so that it takes container "
        "jobs only",
    )
    user_accounts: Flag | None = Field(
        None,
        description="Each user's jobs run there under their own account, by a key that they "
        "store; root_path then has `%u` as one of its folders",
    )
    allow: People | None = Field(None, description=ALLOW)
    deny: People | None = Field(None, description=DENY)
    options: Options | None = Field(
        None, description="What its kind alone knows; docs/clusters.md lists them"
    )


class NewCluster(ClusterFields):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "keeling",
                    "kind": "slurm",
                    "host": "keeling.lab.edu",
                    "login": "queueapi",
                    "key_path": "/etc/queueapi/keeling_ed25519",
                    "root_path": "/scratch/queueapi",
                    "allow": {"emails": ["*@lab.edu"]},
                }
            ]
        }
    )

    name: ClusterName = Field(description="Unique, and for good")
    kind: Kind = Field(description="What runs its jobs; an unknown one is refused with a list")


class ClusterChange(ClusterFields):
    """What is absent stays; null takes away, or sets back to the default."""


class Connection(BaseModel):
    """How it is reached. Secrets are never shown."""

    host: str | None
    port: int
    login: str | None
    key: str = Field(description="own: the server account's; a path; or stored, encrypted")
    has_passphrase: bool
    host_keys: list[str] = Field(description="Fingerprints of the keys that were accepted")
    root_path: str | None
    options: dict[str, Any]


class ClusterDocument(BaseModel):
    name: str
    kind: str
    state: ClusterState = Field(description=STATE)
    reason: str | None = Field(description="Why it is not up")
    problem: str | None = Field(
        description="Why it can't be reached now, as far as the server that answers knows"
    )
    partitions: list[str] = Field(description="That jobs may name; none means all")
    defaults: dict[str, str]
    caps: CapsDocument
    is_community_account: bool = Field(description="It takes container jobs only")
    user_accounts: bool = Field(description="Each user's jobs run there under their own account")
    connection: Connection | None = Field(description="Shown to administrators")
    allow: People | None = Field(description="Shown to administrators")
    deny: People | None = Field(description="Shown to administrators")
    created_at: datetime
    changed_at: datetime


class ClusterPage(BaseModel):
    items: list[ClusterDocument]
    next: str | None = Field(description="Pass it as `cursor` to get the next page")


class CheckDocument(BaseModel):
    name: str = Field(description="What jobs need")
    ok: bool
    found: str
    remedy: str | None = Field(description="How to mend it, where it is not ok")


class ClusterTest(BaseModel):
    ok: bool = Field(description="Whether all that jobs need is there")
    checks: list[CheckDocument]
