"""What a job costs on this machine: time × what it holds × the operator's prices."""

from decimal import Decimal
from typing import TypedDict

from queueapi.config import Settings
from queueapi.jobs.schemas import JobSubmission


def cost(settings: Settings, seconds: float, cpus: int, gpus: int) -> Decimal:
    """In the operator's currency, to six places."""
    if settings.price_per_cpu_hour == settings.price_per_gpu_hour == 0:
        return Decimal(0)
    hourly = cpus * settings.price_per_cpu_hour + gpus * settings.price_per_gpu_hour
    return round(Decimal(hourly * seconds / 3600), 6)


def estimated_cost(settings: Settings, job: JobSubmission) -> Decimal:
    """If it runs to its time limit, an array all its tasks; in the operator's currency."""
    needs = job.needs
    each = cost(settings, job.time_limit, needs.cpus, needs.gpus)
    return job.array_size * needs.nodes * each


class Amounts(TypedDict):
    """What a charge is made of."""

    cpu_minutes: float
    gpu_minutes: float
    memory_gb_minutes: float
    cost: Decimal


def amounts(settings: Settings, seconds: float, cpus: int, gpus: int, memory_mb: int) -> Amounts:
    """Of an attempt that held so much for so long."""
    minutes = seconds / 60
    return Amounts(
        cpu_minutes=cpus * minutes,
        gpu_minutes=gpus * minutes,
        memory_gb_minutes=memory_mb / 1024 * minutes,
        cost=cost(settings, seconds, cpus, gpus),
    )
