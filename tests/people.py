"""Somebody who is logged in."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Person:
    user_id: int
    email: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}
