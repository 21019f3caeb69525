"""Long calculations a little at a time, so that requests are answered in between."""

import asyncio
import time

from queueapi.scheduling.forecast import Forecast

SLICE_SECONDS = 0.004  # at once


async def run_in_slices(
    forecast: Forecast, steps: int, share: float, spent: float = 0.0, until: int | None = None
) -> bool:
    """At most so many steps, or until this job (an id) starts; whether it came to its end.

    `share`: of the time, at the most, that goes into it. `spent`: what making it took (seconds).
    """
    goes_on = True
    while goes_on and steps and until not in forecast.starts:
        started = time.monotonic()
        while goes_on and steps and time.monotonic() - started + spent < SLICE_SECONDS:
            steps -= 1
            goes_on = forecast.step()
        spent += time.monotonic() - started
        await asyncio.sleep(spent * (1 / share - 1))
        spent = 0.0
    return not goes_on
