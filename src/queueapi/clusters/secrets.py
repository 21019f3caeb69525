"""Secrets of clusters, as they are stored: encrypted with a key that comes of JWT_SECRET.

Whoever has a copy of the database alone can't read them.
"""

import base64

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from queueapi.config import Settings

_PURPOSE = b"queueapi: secrets of clusters"


class Unreadable(Exception):  # noqa: N818 - it reads as what it is
    """The secret was stored under another JWT_SECRET, or is damaged."""


class Vault:
    def __init__(self, settings: Settings) -> None:
        # JWT_SECRET is long and random, so that it needs no slow derivation.
        derive = HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE)
        key = derive.derive(settings.signing_key.encode())
        self._fernet = Fernet(base64.urlsafe_b64encode(key))

    def seal(self, secret: str) -> str:
        return self._fernet.encrypt(secret.encode()).decode()

    def unseal(self, sealed: str) -> str:
        """Raises Unreadable."""
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken:
            raise Unreadable("it was stored under another JWT_SECRET") from None
