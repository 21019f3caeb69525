"""The documents of users' own accounts on clusters."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from queueapi.auth.schemas import Email
from queueapi.clusters.cluster_schemas import Login, Passphrase, PrivateKey
from queueapi.fields import Body


class AccountKey(Body):
    """Which account, and the key that opens it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"login": "ada"}]})

    login: Login = Field(description="The name of the account on the cluster")
    private_key: PrivateKey | None = Field(
        None,
        description="Its text. It is stored encrypted and never shown. Without it the server makes "
        "a new key, whose public half goes into authorized_keys there",
    )
    passphrase: Passphrase | None = Field(None, description="Of the key; stored likewise")


class AccountQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    user: Email | None = Field(
        None, description="Whose, by e-mail, where it is not your own: for administrators"
    )


class AccountRemoval(AccountQuery):
    force: bool = Field(
        False, description="Also while jobs run there: they go on, and can't be cancelled from here"
    )


class AccountDocument(BaseModel):
    """Secrets are never shown."""

    cluster: str
    user: str = Field(description="Whose it is, by e-mail")
    login: str
    public_key: str = Field(description="The line for ~/.ssh/authorized_keys on the cluster")
    fingerprint: str = Field(description="Of the key, as ssh-keygen -l prints it")
    has_passphrase: bool
    tested_at: datetime | None = Field(
        description="When it was seen to open the account; null: not yet, or it was refused since, "
        "and no job is started with it"
    )
    problem: str | None = Field(description="Why it was refused")
    changed_at: datetime
    changed_by: str | None = Field(description="Who stored it, by e-mail")
