"""Asks other servers."""

import secrets
import ssl
from typing import TypeVar

import httpx
import structlog
from pydantic import ValidationError
from pydantic_core import from_json

from queueapi import metrics
from queueapi.config import Settings
from queueapi.errors import Unavailable
from queueapi.servers.answers import DIGEST, NONCE, SIGNATURE
from queueapi.servers.questions import Peer, Question
from queueapi.servers.seal import Seal, digest_of

log = structlog.get_logger(__name__)

CONNECTIONS = httpx.Limits(max_connections=50, max_keepalive_connections=10, keepalive_expiry=60)
RETRY_AFTER = 2.0  # seconds
Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Peers:
    def __init__(self, settings: Settings) -> None:
        self._seal = Seal(settings.signing_key)
        # No proxy, no redirect, no credentials of the environment: just the address. What is said
        # is sealed, not encrypted, so no authority is trusted; to read them all takes a while.
        trusts_nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._http = httpx.AsyncClient(limits=CONNECTIONS, trust_env=False, verify=trusts_nobody)

    async def close(self) -> None:
        await self._http.aclose()

    async def ask(self, peer: Peer, question: Question[Asked, Answer], asked: Asked) -> Answer:
        """Raises Unavailable where the peer can't be reached, does not know, or is not itself."""
        body = question.asked.dump_json(asked)
        path, nonce = f"/{question.name}", secrets.token_hex(16)
        parts = (peer.id.encode(), path.encode(), nonce.encode())
        digest = digest_of(body)
        signature = self._seal.of(b"ask", *parts, digest.encode())
        headers = {NONCE: nonce, DIGEST: digest, SIGNATURE: signature}
        try:
            response = await self._http.post(
                f"http://{peer.address}{path}",
                content=body,
                headers=headers,
                timeout=question.seconds,
            )
        # anyio fails so where a connection ends in the moment in which it was made.
        except (httpx.HTTPError, AttributeError) as error:
            raise self._unanswered(question.name, type(error).__name__) from None
        status, answer = response.status_code, response.content
        signature = response.headers.get(SIGNATURE, "")
        if not self._seal.is_of(signature, b"answer", *parts, str(status).encode(), answer):
            raise self._unanswered(question.name, f"not its signature (status {status})")
        if status != 200:
            metrics.PEER_QUESTIONS.labels(question.name, "refused").inc()
            told = from_json(answer)
            raise Unavailable(told["detail"], retry_after=told["retry_after"] or RETRY_AFTER)
        try:
            found = question.answer.validate_json(answer)
        except ValidationError:
            raise self._unanswered(question.name, "an answer of another version") from None
        metrics.PEER_QUESTIONS.labels(question.name, "answered").inc()
        return found

    def _unanswered(self, name: str, why: str) -> Unavailable:
        metrics.PEER_QUESTIONS.labels(name, "unanswered").inc()
        log.warning("peer_unanswered", question=name, why=why)
        return Unavailable(
            "The server that knows this does not answer. Try again.", retry_after=RETRY_AFTER
        )
