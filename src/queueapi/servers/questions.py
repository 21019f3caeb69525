"""What one server asks another: JSON both ways, of types that both know."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import TypeAdapter

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Question(Generic[Asked, Answer]):
    name: str  # its path
    asked: TypeAdapter[Asked]
    answer: TypeAdapter[Answer]
    seconds: float = 10.0  # that an answer may take


@dataclass(frozen=True, slots=True)
class Peer:
    """Another server: where it is asked."""

    id: str
    address: str  # host:port
