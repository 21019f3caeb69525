"""Making and reading tokens. The only file that knows python-jose.

Access and refresh tokens are JWTs, signed with HS256 and nothing else; API tokens are random.
Times are arguments.
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from jose import jwt
from jose.exceptions import JOSEError

from queueapi.clock import from_epoch
from queueapi.errors import Unauthenticated
from queueapi.fields import MAX_ID

ALGORITHM = "HS256"
ISSUER = "queueapi"
AUDIENCE = "queueapi"
API_TOKEN_PREFIX = "qa_"  # noqa: S105 - how an API token begins, not a secret
MAX_TOKEN_LENGTH = 4096
LEEWAY = timedelta(seconds=60)  # between the clocks of several servers
# A token of ours that was issued in the future is no forgery: a clock was wrong, and may be so
# for a while yet.
CLOCKS_APART = timedelta(minutes=15)
LOG_IN = "Log in again to get a new one."

Kind = Literal["access", "refresh"]
# What the parser of a hostile token may raise besides its own errors.
UNREADABLE = (JOSEError, ValueError, TypeError, AttributeError, KeyError, RecursionError)


@dataclass(frozen=True, slots=True)
class Claims:
    user_id: int
    session_id: int
    expires_at: datetime


def issue(
    kind: Kind, key: str, *, user_id: int, session_id: int, now: datetime, lifetime: timedelta
) -> str:
    """A signed token. No two are equal, also within one second."""
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(user_id),
        "sid": session_id,
        "typ": kind,
        "iat": int(now.timestamp()),
        "exp": int((now + lifetime).timestamp()),
        "jti": secrets.token_urlsafe(12),
    }
    return str(jwt.encode(claims, key, algorithm=ALGORITHM))


def read(kind: Kind, token: str, key: str, now: datetime) -> Claims:
    """The claims of a token that is genuine, ours, in date and of this kind.

    Raises Unauthenticated, saying what is wrong with it.
    """
    _check_header(token)
    try:
        claims = jwt.decode(token, key, algorithms=[ALGORITHM], options=_SIGNATURE_ONLY)
    except UNREADABLE:
        raise Unauthenticated(
            f"The token's signature is not this server's, or the token was altered. {LOG_IN}"
        ) from None
    return _check_claims(kind, claims, now)


# The claims are checked here, against a given time and with messages that say which is wrong.
_SIGNATURE_ONLY = {
    f"verify_{claim}": False for claim in ("aud", "iat", "exp", "nbf", "iss", "sub", "jti")
} | {"verify_signature": True, "verify_at_hash": False}


def _check_header(token: str) -> None:
    """Before anything is decoded: one algorithm, and no extension that we would ignore."""
    try:
        if len(token) > MAX_TOKEN_LENGTH or token.count(".") != 2:
            raise ValueError
        header = jwt.get_unverified_header(token)
        algorithm, critical = header.get("alg"), "crit" in header
    except UNREADABLE:
        raise Unauthenticated(
            "The token can't be read: it is neither a token that a login gives nor an API token "
            f"({API_TOKEN_PREFIX}...). {LOG_IN}"
        ) from None
    if algorithm != ALGORITHM:
        shown = str(algorithm)[:20]
        raise Unauthenticated(
            f"The token's algorithm is {shown!r}; only {ALGORITHM} is accepted. {LOG_IN}"
        )
    if critical:
        raise Unauthenticated(
            f"The token has a crit header, and this server knows no such extension. {LOG_IN}"
        )


def _check_claims(kind: Kind, claims: Mapping[str, Any], now: datetime) -> Claims:
    for claim, wanted in (("iss", ISSUER), ("aud", AUDIENCE), ("typ", kind)):
        if claims.get(claim) != wanted:
            raise Unauthenticated(
                f"The token's {claim} must be {wanted!r}: it was made for something else. {LOG_IN}"
            )
    try:
        issued, expires = from_epoch(claims["iat"]), from_epoch(claims["exp"])
        result = Claims(int(claims["sub"]), int(claims["sid"]), expires)
        if not (0 < result.user_id <= MAX_ID and 0 < result.session_id <= MAX_ID):
            raise ValueError
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        raise Unauthenticated(
            f"The token lacks one of iat, exp, sub and sid, or it can't be read. {LOG_IN}"
        ) from None
    if expires <= now:
        raise Unauthenticated(
            f"The token expired at {expires:%Y-%m-%dT%H:%M:%SZ}. Use the refresh token at "
            "POST /api/auth/refresh, or log in again."
        )
    if issued > now + CLOCKS_APART:
        raise Unauthenticated(f"The token was issued in the future. {LOG_IN}")
    if _not_before(claims) > now + LEEWAY:
        raise Unauthenticated(f"The token is not valid yet. {LOG_IN}")
    return result


def _not_before(claims: Mapping[str, Any]) -> datetime:
    """Ours have no nbf; who signs with our key may set one, and it is kept."""
    try:
        return from_epoch(claims.get("nbf", 0))
    except (TypeError, ValueError, OverflowError, OSError):
        raise Unauthenticated(f"The token's nbf can't be read. {LOG_IN}") from None


def new_api_token() -> str:
    """256 bits of randomness, so that a plain hash of it is safe to store."""
    return API_TOKEN_PREFIX + secrets.token_urlsafe(32)


def digest(token: str) -> str:
    """SHA-256 in hex: how a token is stored."""
    return hashlib.sha256(token.encode()).hexdigest()
