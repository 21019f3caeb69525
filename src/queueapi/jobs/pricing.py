"""What a job costs on this machine: time × what it holds × the operator's prices."""

from decimal import Decimal

from queueapi.config import Settings


def cost(settings: Settings, seconds: float, cpus: int, gpus: int) -> Decimal:
    """In the operator's currency, to six places."""
    if settings.price_per_cpu_hour == settings.price_per_gpu_hour == 0:
        return Decimal(0)
    hourly = cpus * settings.price_per_cpu_hour + gpus * settings.price_per_gpu_hour
    return round(Decimal(hourly * seconds / 3600), 6)
