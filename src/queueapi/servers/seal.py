"""Servers of one installation know each other by what they can sign: a key made of JWT_SECRET.

Neither the key nor anybody's token is ever sent. A request is signed for one server, by its id,
which is new at each start; its answer is signed for the request. So whoever took over an address
can neither be asked nor answer. What is sent can be read on the way: docs/servers.md says which
networks will do.
"""

import hashlib
import hmac

_PURPOSE = b"queueapi: between servers"


class Seal:
    def __init__(self, secret: str) -> None:
        """`secret`: JWT_SECRET."""
        self._key = hmac.digest(secret.encode(), _PURPOSE, "sha256")

    def of(self, *parts: bytes) -> str:
        """A signature under these parts, in this order."""
        signed = hmac.new(self._key, digestmod=hashlib.sha256)
        for part in parts:
            signed.update(len(part).to_bytes(8, "big"))
            signed.update(part)
        return signed.hexdigest()

    def is_of(self, signature: str, *parts: bytes) -> bool:
        return hmac.compare_digest(signature.encode(), self.of(*parts).encode())


def digest_of(body: bytes | bytearray) -> str:
    return hashlib.sha256(body).hexdigest()
