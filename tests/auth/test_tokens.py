"""Tokens, made by hand in every way that they can be wrong."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from jose import jwt

from queueapi.auth import tokens
from queueapi.errors import Unauthenticated

KEY = "k3y-0123456789-abcdefghijklmnopqrst"
NOW = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def issue(**changes: Any) -> str:
    values: dict[str, Any] = {"user_id": 7, "session_id": 9, "now": NOW, "lifetime": HOUR}
    return tokens.issue("access", KEY, **values | changes)


def encoded(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def signed(
    claims: dict[str, Any] | None = None,
    *,
    header: dict[str, Any] | None = None,
    algorithm: str = "HS256",
    key: str = KEY,
) -> str:
    good = jwt.get_unverified_claims(issue())
    claims = {k: v for k, v in (good | (claims or {})).items() if v is not None}
    return jwt.encode(claims, key, algorithm=algorithm, headers=header)


def refused(token: str, now: datetime = NOW, kind: tokens.Kind = "access") -> str:
    with pytest.raises(Unauthenticated) as caught:
        tokens.read(kind, token, KEY, now)
    return caught.value.detail


def test_a_token_gives_back_what_it_was_made_of() -> None:
    claims = tokens.read("access", issue(), KEY, NOW)
    assert claims == tokens.Claims(7, 9, NOW + HOUR)


def test_a_token_is_good_until_its_very_end() -> None:
    tokens.read("access", issue(), KEY, NOW + HOUR - timedelta(seconds=1))
    assert "expired at 2030-01-01T01:00:00Z" in refused(issue(), NOW + HOUR)


def test_the_clocks_of_servers_may_be_minutes_apart() -> None:
    ahead = issue(now=NOW + timedelta(minutes=15))
    assert tokens.read("access", ahead, KEY, NOW).user_id == 7


def test_no_two_tokens_are_equal() -> None:
    assert issue() != issue()


def test_algorithm_none_is_refused() -> None:
    _, payload, signature = issue().split(".")
    for name in ("none", "None", "NONE", None, 1, ["HS256"]):
        for end in ("", signature):
            token = f"{encoded({'alg': name, 'typ': 'JWT'})}.{payload}.{end}"
            assert "only HS256 is accepted" in refused(token)


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_another_algorithm_is_refused_although_the_key_is_right(algorithm: str) -> None:
    assert f"algorithm is '{algorithm}'" in refused(signed(algorithm=algorithm))


def test_a_crit_header_is_refused() -> None:
    assert "crit" in refused(signed(header={"crit": ["b64"], "b64": False}))
    assert "crit" in refused(signed(header={"crit": None}))


def test_another_key_or_a_changed_token_is_refused() -> None:
    assert "signature" in refused(signed(key=KEY + "x"))
    head, _, signature = issue().split(".")
    forged = encoded(jwt.get_unverified_claims(issue()) | {"sub": "1"})
    assert "signature" in refused(f"{head}.{forged}.{signature}")
    assert "signature" in refused(issue()[:-4])


@pytest.mark.parametrize("claim", ["iss", "aud", "exp", "iat", "sub", "sid", "typ"])
@pytest.mark.parametrize("value", [None, "other", [], {}, 10**400], ids=lambda v: str(v)[:9])
def test_every_claim_is_needed_and_checked(claim: str, value: Any) -> None:
    refused(signed({claim: value}))


def test_the_messages_name_the_claim() -> None:
    assert "aud must be 'queueapi'" in refused(signed({"aud": "elsewhere"}))
    assert "iss must be 'queueapi'" in refused(signed({"iss": "elsewhere"}))
    assert "issued in the future" in refused(issue(now=NOW + HOUR, lifetime=HOUR))
    later = (NOW + HOUR / 2).timestamp()
    assert "not valid yet" in refused(signed({"nbf": later}))
    assert "nbf can't be read" in refused(signed({"nbf": "soon"}))


def test_an_access_token_is_no_refresh_token_and_the_reverse() -> None:
    assert "typ" in refused(issue(), kind="refresh")
    other = tokens.issue("refresh", KEY, user_id=7, session_id=9, now=NOW, lifetime=HOUR)
    assert "typ" in refused(other)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "..",
        "a.b",
        "a.b.c.d",
        "é.é.é",
        "\x00.\x00.\x00",
        "a" * 10_000,
        encoded([]) + ".e30.x",
        encoded(None) + ".e30.x",
        encoded("alg") + ".e30.x",
        base64.urlsafe_b64encode(b"[" * 2900).decode() + ".e30.x",
        base64.urlsafe_b64encode(b'{"a":' * 580).decode() + ".e30.x",
        base64.urlsafe_b64encode(b"\xff\xfe").decode() + ".e30.x",
    ],
    ids=lambda text: repr(text[:12]),
)
def test_what_is_no_token_is_refused_and_breaks_nothing(text: str) -> None:
    refused(text)


def test_claims_that_are_no_object_are_refused() -> None:
    for claims in ("[]", "null", "1", "{"):
        head = encoded({"alg": "HS256", "typ": "JWT"})
        body = base64.urlsafe_b64encode(claims.encode()).decode().rstrip("=")
        refused(f"{head}.{body}.AAAA")


def test_api_tokens_are_long_and_random() -> None:
    one, other = tokens.new_api_token(), tokens.new_api_token()
    assert one != other
    assert one.startswith("qa_")
    assert len(one) >= 43
    assert len(tokens.digest(one)) == 64
