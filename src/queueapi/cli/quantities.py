"""Times and sizes as people write them. Each function raises ValueError with what is right."""

import re
from datetime import datetime

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_WITH_UNIT = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):([0-5]?\d)(?::([0-5]?\d))?")
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt])?(?:i?b)?", re.IGNORECASE)
_GIGABYTES = {"k": 1 / 1024**2, "m": 1 / 1024, "g": 1.0, "t": 1024.0}


def seconds(text: str) -> float:
    """90s, 30m, 4h, 2d, 1h30m, HH:MM, HH:MM:SS or D-HH:MM:SS."""
    text = text.strip().lower()
    clock = _CLOCK.fullmatch(text)
    if clock:
        days, hours, minutes, rest = (int(part or 0) for part in clock.groups())
        return float(days * 86_400 + hours * 3600 + minutes * 60 + rest)
    parts = _WITH_UNIT.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a time; write 90s, 30m, 4h, HH:MM:SS or D-HH:MM:SS")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def gigabytes(text: str) -> float:
    """4, 4G, 512M or 1.5T; without a unit it is gigabytes."""
    match = _MEMORY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size; write 4G or 512M")
    return float(match[1]) * _GIGABYTES[(match[2] or "g").lower()]


def moment(text: str) -> str:
    """A date or time as ISO 8601, in local time where it names no zone, as the API takes it."""
    try:
        return datetime.fromisoformat(text).astimezone().isoformat()
    except ValueError:
        raise ValueError(f"{text!r} is not a time; write 2026-11-20 or 2026-11-20T14:30") from None


def span(total: float) -> str:
    """Seconds as H:MM:SS, with days before it where there are any."""
    minutes, rest = divmod(round(total), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    clock = f"{hours}:{minutes:02}:{rest:02}"
    return f"{days}-{clock}" if days else clock


def local_time(moment: datetime | None) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S") if moment else ""
