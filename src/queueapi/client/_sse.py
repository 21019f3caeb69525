"""Reads server-sent events. Pure: bytes in, events out."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ServerEvent:
    kind: str
    data: str
    id: str | None


@dataclass(slots=True)
class EventReader:
    """Only LF and CRLF end a line: other line ends may stand inside a message's JSON."""

    _rest: bytes = b""
    _kind: str = "message"
    _data: list[str] = field(default_factory=list)
    _id: str | None = None

    def feed(self, data: bytes) -> list[ServerEvent]:
        """The events that are complete with these bytes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [event for line in lines if (event := self._line(line)) is not None]

    def _line(self, raw: bytes) -> ServerEvent | None:
        line = raw.removesuffix(b"\r").decode()
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._kind = value
        elif name == "data":
            self._data.append(value)
        elif name == "id":
            self._id = value
        return None

    def _dispatch(self) -> ServerEvent | None:
        event = ServerEvent(self._kind, "\n".join(self._data), self._id) if self._data else None
        self._kind, self._data = "message", []
        return event
