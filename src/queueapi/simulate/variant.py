"""A way to schedule that can be asked for by name: policy, estimates, changed settings."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from queueapi.scheduling import Backfill, Config, Order
from queueapi.scheduling.prediction import PATIENCE
from queueapi.simulate.estimates import ESTIMATES

UNLIMITED = 1_000_000_000
_LIMITS = ("max_running", "max_running_per_user", "max_running_per_user_ceiling")
_SECONDS_PER_MINUTE = 60.0
POLICIES: Mapping[str, Mapping[str, Any]] = {
    "fcfs": {"order": Order.ARRIVAL, "backfill": Backfill.NONE},
    "easy": {"order": Order.ARRIVAL, "backfill": Backfill.RESERVATIONS, "reservations": 1},
    "sjbf": {
        "order": Order.ARRIVAL,
        "backfill": Backfill.RESERVATIONS,
        "reservations": 1,
        "shortest_first": True,
    },
    "conservative": {"order": Order.ARRIVAL, "backfill": Backfill.CONSERVATIVE},
    "fair_share": {"order": Order.FAIR_SHARE},
}


class UnknownVariant(Exception):  # noqa: N818
    """The words name no way to schedule; the message says which do."""


@dataclass(frozen=True, slots=True)
class Variant:
    """What is simulated once."""

    policy: str
    estimates: str
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # fields of Config

    @property
    def name(self) -> str:
        changed = "".join(f"+{key}={_written(value)}" for key, value in self.changes.items())
        source = "" if self.estimates == "user" else f":{self.estimates}"
        return f"{self.policy}{source}{changed}"

    def config(self, base: Config) -> Config:
        """The scheduler's settings: the base, with what policy, estimates and changes set.

        Raises UnknownVariant for settings that contradict each other.
        """
        changes = {**POLICIES[self.policy], **self.changes}
        if self.changes.keys() & set(_LIMITS):
            changes.setdefault("limits", True)
        if self.estimates == "learned":
            changes.setdefault("patience", PATIENCE)
        try:
            return dataclasses.replace(base, **changes)
        except ValueError as error:
            raise UnknownVariant(f"{self.name}: {error}") from None


def open_config(cpus: int, groups: int) -> Config:
    """Settings for a trace on so many CPUs: without limits, since the trace knows of none.

    Where groups have no quota, fair share takes each to have an equal part of the machine: the
    quota is the decayed use of a group that has had just its part for ever.
    """
    config = Config(
        limits=False,  # and if some are asked for, then no others
        max_running=UNLIMITED,
        max_running_per_user=UNLIMITED,
        max_running_per_user_ceiling=UNLIMITED,
        backfill_depth=UNLIMITED,
    )
    lifetime = config.half_life / math.log(2) / _SECONDS_PER_MINUTE  # minutes that count in full
    return dataclasses.replace(config, default_quota_cpu_minutes=cpus * lifetime / groups)


def parse_variant(text: str, estimates: str = "user") -> Variant:
    """`POLICY[:ESTIMATES][+SETTING=VALUE]...`, such as `easy:exact` or `fair_share+reservations=4`.

    Raises UnknownVariant.
    """
    name, *changes = text.strip().split("+")
    policy, colon, source = name.partition(":")
    if policy not in POLICIES:
        raise UnknownVariant(f"unknown policy {policy!r}; there are {', '.join(POLICIES)}")
    source = source if colon else estimates
    if source not in ESTIMATES:
        raise UnknownVariant(f"unknown estimates {source!r}; there are {', '.join(ESTIMATES)}")
    return Variant(policy, source, dict(_change(change) for change in changes))


def _change(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    defaults = {
        field.name: field.default
        for field in dataclasses.fields(Config)
        if isinstance(field.default, bool | int | float | str | None)
    }
    if name not in defaults:
        raise UnknownVariant(f"unknown setting {name!r}; there are {', '.join(defaults)}")
    try:
        return name, _read(value, defaults[name])
    except ValueError:
        raise UnknownVariant(f"{name}={value}: not a value such as {defaults[name]}") from None


def _read(text: str, example: Any) -> Any:
    """The value in the text, of the type of the example. Raises ValueError."""
    if isinstance(example, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    if isinstance(example, Enum):
        return type(example)(text)
    if example is None and text.lower() == "none":
        return None
    if isinstance(example, int):
        return int(text)
    if isinstance(example, str):
        return text
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _written(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower()
