"""People, groups and tokens for tests, made straight in the database.

A login costs an argon2 hash; these cost none, so that a test can have a whole cast.
"""

import itertools
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import httpx
from fastapi import FastAPI

from queueapi.auth import passwords, tokens
from queueapi.auth.models import ApiToken, LoginSession, Role, User
from queueapi.auth.principal import Scope
from queueapi.clock import utc_now
from queueapi.config import Settings
from queueapi.db.session import Database
from queueapi.groups.models import Group, JoinPolicy, MemberRole, Membership
from queueapi.jobs.models import Job

PASSWORD = "correct horse battery"
_numbers = itertools.count(1)


@cache
def password_hash() -> str:
    return passwords._hasher.hash(PASSWORD)


@dataclass(frozen=True)
class Person:
    id: int
    email: str
    session_id: int
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return bearer(self.token)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@dataclass(frozen=True)
class World:
    app: FastAPI
    client: httpx.AsyncClient

    @property
    def database(self) -> Database:
        database: Database = self.app.state.database
        return database

    @property
    def settings(self) -> Settings:
        settings: Settings = self.app.state.settings
        return settings

    async def person(self, email: str | None = None, *, admin: bool = False) -> Person:
        """An account in no group, with a login of its own. The password is PASSWORD."""
        email = email or f"person{next(_numbers)}@lab.edu"
        role = Role.ADMIN if admin else Role.USER
        async with self.database.transaction() as session:
            user = User(email=email, password_hash=password_hash(), role=role)
            session.add(user)
            await session.flush()
            login = LoginSession(
                user_id=user.id,
                refresh_hash=tokens.digest(tokens.new_api_token()),
                expires_at=utc_now() + timedelta(days=1),
            )
            session.add(login)
            await session.flush()
        return Person(user.id, email, login.id, self.access_token(user.id, login.id))

    def access_token(self, user_id: int, session_id: int, **lifetime: float) -> str:
        return tokens.issue(
            "access",
            self.settings.signing_key,
            user_id=user_id,
            session_id=session_id,
            now=utc_now(),
            lifetime=timedelta(**(lifetime or {"minutes": 5})),
        )

    async def api_token(self, person: Person, *scopes: Scope, **lifetime: float) -> dict[str, str]:
        """The headers of a new API token."""
        secret = tokens.new_api_token()
        async with self.database.transaction() as session:
            session.add(
                ApiToken(
                    user_id=person.id,
                    name=secret[:20],
                    token_hash=tokens.digest(secret),
                    scopes=list(scopes),
                    expires_at=utc_now() + timedelta(**(lifetime or {"days": 1})),
                )
            )
        return bearer(secret)

    async def group(
        self, name: str, policy: JoinPolicy = JoinPolicy.APPROVAL, **fields: Any
    ) -> int:
        async with self.database.transaction() as session:
            group = Group(name=name, join_policy=policy, **fields)
            session.add(group)
            await session.flush()
            return group.id

    async def member(
        self,
        person: Person,
        group_id: int,
        *,
        manager: bool = False,
        approved: bool = True,
        default: bool = False,
    ) -> None:
        async with self.database.transaction() as session:
            session.add(
                Membership(
                    user_id=person.id,
                    group_id=group_id,
                    role=MemberRole.MANAGER if manager else MemberRole.MEMBER,
                    is_default=default,
                    approved_at=utc_now() if approved else None,
                )
            )
        self.app.state.principals.forget(person.id)

    async def job(self, person: Person, group_id: int, state: str = "queued") -> int:
        async with self.database.transaction() as session:
            job = Job(
                user_id=person.id,
                group_id=group_id,
                name="job",
                tags=[],
                script="true",
                cpu_cores=1,
                memory_mb=1024,
                gpu_count=0,
                time_limit=3600,
                queue="normal",
                base_priority=5,
                max_retries=0,
                estimated_cost=0,
                state=state,
            )
            session.add(job)
            await session.flush()
            return job.id

    async def ask(
        self, method: str, path: str, who: Person | dict[str, str] | None = None, **options: Any
    ) -> httpx.Response:
        headers = who.headers if isinstance(who, Person) else who
        return await self.client.request(method, path, headers=headers, **options)


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """The problem document of an answer that must have this status."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["status"] == status
    assert document["type"].startswith("/problems/")
    assert len(document["detail"]) > 15
    return document


def ok(response: httpx.Response, status: int = 200) -> Any:
    assert response.status_code == status, response.text
    return response.json() if response.content else None
