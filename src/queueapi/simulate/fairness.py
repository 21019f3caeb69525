"""Was it fair? Shares of those who competed, and jobs that were overtaken to their harm."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from queueapi.simulate.measures import Run

HOUR = 3600.0  # seconds
DAY = 24 * HOUR
_LONG = 10 * DAY  # a trace that is looked at day by day
_MOST_SPANS = 20_000  # longer ones than that of absurd traces


@dataclass(frozen=True, slots=True)
class UnfairStarts:
    """Jobs that started later than was fair."""

    jobs: int
    share: float  # of all jobs
    mean_delay: float  # seconds beyond the fair start, over all jobs


def jain(values: Sequence[float]) -> float:
    """(Σx)² / (n Σx²): 1 when all are equal, 1/n when one has everything.

    Source: Jain, Chiu and Hawe, "A quantitative measure of fairness and discrimination for
    resource allocation in shared computer systems", DEC-TR-301, 1984.
    """
    squares = sum(value * value for value in values)
    return 1.0 if squares == 0 else sum(values) ** 2 / (len(values) * squares)


def share_index(runs: Sequence[Run], shares: Mapping[str, float]) -> float | None:
    """Jain's index of groups' use over their target shares.

    Over a whole trace it would say nothing, since in the end everybody got what he asked for. So
    it is taken day by day (hour by hour if jobs were submitted for less than ten days), over the
    groups that had a job waiting then, and so wanted more than they got. The days are weighted
    with the CPU time that these groups used. A group that is not in `shares` has the share 1.
    None when no two groups ever competed.
    """
    return _mean(
        _spans(runs, _span(runs), lambda run: run.job.group, lambda name: shares.get(name, 1.0))
    )


def user_index(runs: Sequence[Run]) -> float | None:
    """The same for the users of a group, whose target shares are equal; of all groups together."""
    span = _span(runs)
    by_group: defaultdict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_group[run.job.group].append(run)
    return _mean(
        day
        for group in by_group.values()
        for day in _spans(group, span, lambda run: run.job.user, lambda user: 1.0)
    )


def unfair_starts(
    starts: Sequence[float | None], fair_starts: Sequence[float | None]
) -> UnfairStarts:
    """How many jobs started after their fair start; both by the job's place in the trace.

    The model of fairness is that no job that arrives later delays one that was there before
    (Sabin, Kochhar and Sadayappan, "Job fairness in non-preemptive job scheduling", ICPP 2004).
    The fair starts are those of conservative backfill in order of arrival with exact run times:
    there nobody starts later than if nobody had come after him.
    """
    delays = [
        max(start - fair, 0.0)
        for start, fair in zip(starts, fair_starts, strict=True)
        if start is not None and fair is not None
    ]
    late = sum(delay > 0 for delay in delays)
    count = max(len(delays), 1)
    return UnfairStarts(late, late / count, sum(delays) / count)


_Day = tuple[float, float]  # Jain's index of one day or hour, and its weight


def _span(runs: Sequence[Run]) -> float:
    """Seconds over which use is summed: the same for all ways to schedule one trace."""
    submits = [run.job.submit for run in runs]
    first = min(submits)
    span = DAY if max(submits) - first >= _LONG else HOUR
    while max(run.end for run in runs) - first > _MOST_SPANS * span:
        span *= 10
    return span


def _spans(
    runs: Iterable[Run], span: float, owner: Callable[[Run], str], share: Callable[[str], float]
) -> Iterable[_Day]:
    used: defaultdict[int, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    waiting: defaultdict[int, set[str]] = defaultdict(set)
    for run in runs:
        who = owner(run)
        for day, seconds in _parts(run.start, run.end, span):
            used[day][who] += seconds * run.cpus
        for day, _ in _parts(run.job.submit, run.start, span):
            waiting[day].add(who)
    for day, owners in waiting.items():
        if len(owners) > 1:
            use = {who: used[day][who] for who in sorted(owners)}
            yield jain([amount / share(who) for who, amount in use.items()]), sum(use.values())


def _parts(begin: float, end: float, span: float) -> Iterable[tuple[int, float]]:
    """The days or hours that a time touches, with the seconds of it in each."""
    number = int(begin // span)
    while begin < end:
        until = min(end, (number + 1) * span)
        yield number, until - begin
        begin, number = until, number + 1


def _mean(days: Iterable[_Day]) -> float | None:
    known = list(days)
    weight = sum(weight for _, weight in known)
    return sum(index * weight for index, weight in known) / weight if weight else None
