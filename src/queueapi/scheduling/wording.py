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


def asked(request: Request) -> str:
    """What a request asks of one node."""
    parts = [counted(request.cpus, "CPU"), f"{request.memory_mb} MB"]
    if request.gpu_count:
        gpus = counted(request.gpu_count, "GPU")
        parts.append(f"{gpus} of type {request.gpu_type}" if request.gpu_type else gpus)
    return f"{', '.join(parts[:-1])} and {parts[-1]} on one node"
