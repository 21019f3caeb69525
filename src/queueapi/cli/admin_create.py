"""`admin create`: the first administrator, made straight in the database."""

import asyncio
from typing import Annotated

import typer
from pydantic import BaseModel, ValidationError

from queueapi.auth.accounts import create_admin
from queueapi.auth.schemas import Email, NewPassword
from queueapi.cli.account import AsJson, PasswordStdin, read_password
from queueapi.cli.commands import Failure
from queueapi.cli.database import DATABASE_ERRORS, database_url, unreachable
from queueapi.cli.exits import USAGE
from queueapi.cli.output import Output
from queueapi.cli.settings import load_settings
from queueapi.config import ConfigurationError
from queueapi.db.migrate import migrate
from queueapi.db.session import Database
from queueapi.errors import Problem


class NewAdmin(BaseModel):
    email: Email
    password: NewPassword


def create(
    email: Annotated[str, typer.Argument(metavar="EMAIL")],
    password_stdin: PasswordStdin = False,
    json: AsJson = False,
) -> None:
    """Make an administrator's account, in the server's own database."""
    settings = load_settings()
    wanted = _checked(email, read_password(password_stdin, new=True))
    with database_url(settings) as url:
        try:
            user_id = asyncio.run(_create(url, wanted))
        except Problem as problem:
            raise Failure(problem.detail) from None
        except ConfigurationError as error:
            raise Failure(str(error), USAGE) from None
        except DATABASE_ERRORS as error:
            raise unreachable(error) from None
    document = {"id": user_id, "email": wanted.email, "role": "admin"}
    Output(as_json=json).result(document, f"{wanted.email} is an administrator.")


def _checked(email: str, password: str) -> NewAdmin:
    try:
        return NewAdmin.model_validate({"email": email, "password": password})
    except ValidationError as error:
        wrong = "; ".join(f"{d['loc'][0]}: {d['msg']}" for d in error.errors())
        raise Failure(f"{wrong}.", USAGE) from None


async def _create(url: str, wanted: NewAdmin) -> int:
    database = Database(url, pool_size=1)
    try:
        await migrate(database)
        async with database.transaction() as session:
            user = await create_admin(session, wanted.email, wanted.password.get_secret_value())
            return user.id
    finally:
        await database.close()
