"""Who sends this request? Answered from memory whenever it was asked a moment ago."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.auth import credentials, tokens
from queueapi.auth.credentials import Verified
from queueapi.auth.principal import Principal
from queueapi.clock import utc_now
from queueapi.config import Settings
from queueapi.db.session import Database
from queueapi.errors import Unauthenticated

CACHE_SIZE = 10_000  # tokens


@dataclass(frozen=True, slots=True)
class _Entry:
    principal: Principal
    until: datetime


class Principals:
    """Authenticates Authorization headers, and remembers each for `principal_cache_seconds`.

    What changes a person's rights calls a forget method, which has effect at once in this
    process; other servers follow when their entry ends. Kept by hash, so that no token stays in
    memory.
    """

    def __init__(
        self, database: Database, settings: Settings, now: Callable[[], datetime] = utc_now
    ) -> None:
        self._database = database
        self._key = settings.signing_key
        self._lifetime = timedelta(seconds=settings.principal_cache_seconds)
        self._now = now
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._loading: dict[bytes, asyncio.Task[Principal]] = {}
        self._generation = 0  # grows at each forget: what was read before is not kept

    async def authenticate(self, authorization: str | None) -> Principal:
        """The person that an Authorization header stands for, or Unauthenticated."""
        if not authorization:
            raise Unauthenticated(
                "This needs a token. Log in at POST /api/auth/login and send the header "
                "Authorization: Bearer TOKEN."
            )
        key = hashlib.sha256(authorization.encode("utf-8", "replace")).digest()
        entry = self._entries.get(key)
        if entry is not None and self._now() < entry.until:
            self._entries.move_to_end(key)
            return entry.principal
        task = self._loading.get(key)
        if task is None:
            task = asyncio.create_task(self._load(key, bearer_token(authorization)))
            self._loading[key] = task
            task.add_done_callback(lambda done: self._loaded(key, done))
        return await asyncio.shield(task)

    def forget(self, user_id: int) -> None:
        """Read this person's rights anew from the next request on."""
        self._drop(lambda principal: principal.user_id == user_id)

    def forget_session(self, session_id: int) -> None:
        self._drop(lambda principal: principal.session_id == session_id)

    def forget_after_commit(self, session: AsyncSession, *user_ids: int) -> None:
        """Forget these people when the session's transaction is committed, not before.

        Earlier, a request between the two would read, and keep, what is about to change.
        """

        def forget(_: object) -> None:
            for user_id in user_ids:
                self.forget(user_id)

        event.listen(session.sync_session, "after_commit", forget, once=True)

    def _drop(self, matches: Callable[[Principal], bool]) -> None:
        self._generation += 1
        self._loading.clear()  # whoever comes now must not join an older reading
        for key in [k for k, entry in self._entries.items() if matches(entry.principal)]:
            del self._entries[key]

    async def _load(self, key: bytes, token: str) -> Principal:
        generation, now = self._generation, self._now()
        verified = await self._verify(token, now)
        if generation == self._generation:
            self._entries[key] = _Entry(
                verified.principal, min(now + self._lifetime, verified.expires_at)
            )
            if len(self._entries) > CACHE_SIZE:
                self._entries.popitem(last=False)
        return verified.principal

    async def _verify(self, token: str, now: datetime) -> Verified:
        if token.startswith(tokens.API_TOKEN_PREFIX):
            token_hash = tokens.digest(token)
            async with self._database.transaction() as session:
                return await credentials.from_api_token(session, token_hash, now)
        claims = tokens.read("access", token, self._key, now)
        async with self._database.transaction() as session:
            return await credentials.from_session(session, claims, now)

    def _loaded(self, key: bytes, task: asyncio.Task[Principal]) -> None:
        if self._loading.get(key) is task:
            del self._loading[key]
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio reports nothing when nobody waits


def bearer_token(authorization: str) -> str:
    """The token of a Bearer header; anything else is Unauthenticated."""
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > tokens.MAX_TOKEN_LENGTH:
        raise Unauthenticated(
            "The Authorization header can't be used. Send it as: Authorization: Bearer TOKEN."
        )
    return token
