"""The documents that the account routes take and give."""

from datetime import datetime
from typing import Annotated, Literal

from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from queueapi.auth.models import Role
from queueapi.auth.passwords import MAX_LENGTH, MIN_LENGTH
from queueapi.auth.principal import Scope
from queueapi.auth.tokens import MAX_TOKEN_LENGTH
from queueapi.fields import Body, Flag, Name, from_json

MAX_EMAIL = 254


# Addresses in a closed network end in .local or .test, and the demo's do too.
SPECIAL_USE_DOMAIN_NAMES.clear()


def _email(value: str) -> str:
    """Syntax only: addresses inside a campus network are as good as any."""
    try:
        checked = validate_email(value, check_deliverability=False, globally_deliverable=False)
    except EmailNotValidError as error:
        raise PydanticCustomError("email", "{reason}", {"reason": str(error)}) from None
    return checked.normalized.lower()


Email = Annotated[
    str,
    AfterValidator(_email),
    Field(max_length=MAX_EMAIL),
    WithJsonSchema({"type": "string", "format": "email", "maxLength": MAX_EMAIL}),
]
NewPassword = Annotated[SecretStr, Field(min_length=MIN_LENGTH, max_length=MAX_LENGTH)]
# One that exists already: whatever it is, it is compared and not judged.
Password = Annotated[SecretStr, Field(min_length=1, max_length=MAX_LENGTH)]

# What an API token may be limited to: everything but the account itself.
TokenScope = Literal[
    Scope.JOBS_READ, Scope.JOBS_WRITE, Scope.GROUPS_READ, Scope.GROUPS_WRITE, Scope.ADMIN
]
Days = Annotated[int, Field(ge=1, le=3650), BeforeValidator(from_json)]


class Login(Body):
    email: Email = Field(description="The account's e-mail address", examples=["ada@lab.edu"])
    password: Password = Field(examples=["correct horse battery"])


class Refresh(Body):
    refresh_token: str = Field(
        min_length=1,
        max_length=MAX_TOKEN_LENGTH,
        description="The refresh_token of the last login or refresh. It works once.",
    )


class PasswordChange(Body):
    current_password: Password = Field(examples=["correct horse battery"])
    new_password: NewPassword = Field(
        description=f"At least {MIN_LENGTH} characters", examples=["staple battery horse"]
    )


class TokenPair(BaseModel):
    """What a login gives. Send `token` as `Authorization: Bearer TOKEN`."""

    token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - a scheme's name
    expires_in: int = Field(description="Seconds until `token` ends", examples=[3600])
    refresh_token: str = Field(description="Exchanged once, at POST /api/auth/refresh")
    refresh_expires_in: int = Field(description="Seconds until `refresh_token` ends")


class NewApiToken(Body):
    name: Name = Field(
        description="What you will know it by; unique among your tokens", examples=["ci"]
    )
    scopes: list[TokenScope] = Field(
        min_length=1,
        max_length=10,
        description="What it may do. `admin` is for administrators",
        examples=[["jobs:read", "jobs:write"]],
    )
    expires_in_days: Days = Field(90, description="The server may allow fewer; it says so")


class ApiTokenView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None = Field(description="To within a minute")


class CreatedApiToken(ApiTokenView):
    token: str = Field(description="Shown this once. Keep it where secrets are kept.")


class ApiTokenList(BaseModel):
    items: list[ApiTokenView]


class UserView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    email: str
    role: Role
    is_active: bool = Field(description="Whether the account can log in and use its tokens")
    created_at: datetime


class UserList(BaseModel):
    items: list[UserView]
    next: str | None = Field(description="Pass it as `cursor` to get the next page")


class UserChange(Body):
    """What is absent or null stays as it is."""

    role: Role | None = None
    is_active: Flag | None = Field(
        None, description="false ends every login and revokes every API token of the account"
    )
