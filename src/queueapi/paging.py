"""Opaque cursors: where the next page of a list begins."""

import base64
import binascii
import json
from typing import Any

from queueapi.errors import FieldError, Invalid


def encode_cursor(*position: Any) -> str:
    raw = json.dumps(position, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _is(part: Any, kind: type) -> bool:
    """JSON has larger numbers than a column or a time."""
    small = not isinstance(part, int | float) or abs(part) < 2**63  # nor NaN, nor infinity
    return type(part) is kind and small


def decode_cursor(cursor: str, *kinds: type) -> list[Any]:
    """The position of `cursor`, whose parts must be of these kinds. Raises Invalid."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        position = json.loads(raw)
        fits = isinstance(position, list) and len(position) == len(kinds)
        if fits and all(_is(p, k) for p, k in zip(position, kinds, strict=True)):
            return list(position)
    except (binascii.Error, ValueError, RecursionError):
        pass
    raise Invalid(
        "The cursor can't be read. Pass on `next` of the page before as it is, or leave it out.",
        errors=[FieldError("cursor", "not one of ours")],
    )
