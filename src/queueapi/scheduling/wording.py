"""Numbers and times as people read them, for the messages of reasons."""

from __future__ import annotations

from queueapi.scheduling.model import SECONDS_PER_DAY, Request


def clock(when: float, now: float) -> str:
    """A time of day in UTC (both epoch seconds), with the day if it is not today.

    Needs no calendar: epoch seconds count days of exactly 86 400 seconds.
    """
    minutes = int(when % SECONDS_PER_DAY) // 60
    text = f"{minutes // 60:02d}:{minutes % 60:02d} UTC"
    days = int(when // SECONDS_PER_DAY) - int(now // SECONDS_PER_DAY)
    if days == 0:
        return text
    return f"{text} tomorrow" if days == 1 else f"{text} in {days} days"


def counted(count: int, noun: str) -> str:
    """ "1 job", "2 jobs"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def amount(number: float) -> str:
    """CPU-minutes with at most one decimal."""
    return f"{number:,.1f}".removesuffix(".0")


def memory(memory_mb: int) -> str:
    """Memory in GB where that is exact to a decimal, otherwise in MB."""
    gigabytes = memory_mb / 1024
    return f"{gigabytes:g} GB" if gigabytes * 10 % 1 == 0 else f"{memory_mb} MB"


def duration(seconds: float) -> str:
    """ "45 min", "4 h", "1 h 20 min", "2 d 3 h"; what is below a minute in seconds."""
    if seconds < 60:
        return f"{seconds:g} s"
    minutes = round(seconds / 60)
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    parts = [f"{days} d" if days else "", f"{hours} h" if hours else ""]
    parts.append(f"{minutes} min" if minutes and not days else "")
    return " ".join(part for part in parts if part)


def asked(request: Request) -> str:
    """What a request asks of its nodes."""
    parts = [counted(request.cpus, "CPU"), memory(request.memory_mb)]
    if request.gpu_count:
        gpus = counted(request.gpu_count, "GPU")
        parts.append(f"{gpus} of type {request.gpu_type}" if request.gpu_type else gpus)
    text = f"{', '.join(parts[:-1])} and {parts[-1]} on "
    text += "one node" if request.nodes == 1 else f"each of {request.nodes} nodes"
    if request.constraint:
        text += f" with {' or '.join(' and '.join(each) for each in request.constraint)}"
    return f"{text}, exclusively" if request.exclusive else text
