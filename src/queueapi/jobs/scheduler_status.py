"""What the scheduler says of itself: its policy, its last cycle, the worth of its estimates."""

from datetime import datetime

from pydantic import BaseModel, Field


class SchedulerPolicy(BaseModel):
    """The settings that plans follow. See the guide to scheduling."""

    fairness: str = Field(description="formula or fair_tree")
    fair_share_min: float
    fair_share_max: float
    user_share_max: float
    half_life_days: float = Field(description="Of past use")
    weights: dict[str, float] = Field(description="Of a minute of a resource, as use")
    wait_boost_slope: float = Field(description="Boost gained for each hour of waiting")
    wait_boost_cap: float | None
    backfill: str = Field(description="none, reservations or conservative")
    reservations: int = Field(description="How many jobs backfill must not delay")
    backfill_depth: int
    max_running: int
    max_running_per_user: int


class SchedulerLeader(BaseModel):
    """The server process that schedules; all others ask it."""

    server: str = Field(description="host:pid")
    since: datetime
    epoch: int = Field(description="Grows by one each time that a server takes the lead")


class SchedulerCycle(BaseModel):
    """The last cycle that was finished."""

    finished_at: datetime
    seconds: float
    jobs_looked_at: int
    started: int
    reservations: int = Field(description="Jobs that room is kept for")


class EstimateQuality(BaseModel):
    """How often jobs started by their estimates; each rate should come to its quantile."""

    outcomes: int = Field(description="Past starts that the rates are taken over")
    p50_hit_rate: float | None
    p90_hit_rate: float | None


class SchedulerStatus(BaseModel):
    leader: SchedulerLeader
    policy: SchedulerPolicy
    waiting: int
    running: int = Field(description="Jobs that hold resources")
    last_cycle: SchedulerCycle | None
    estimates: EstimateQuality
