"""Submits in one statement, decided on what is known of those who submit.

Most submits come from people whose groups, queues and clusters are as they were a moment ago. Their
jobs are decided on from memory, and the statement that stores them looks whether all of that still
holds: else it stores nothing, and `submit` decides anew on what it reads. What is refused, or needs
more than to be stored, is never decided on here. It saves six of seven questions to the database.
"""

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import structlog
from asyncpg import PostgresError, Record
from sqlalchemy import text

from queueapi.clock import utc_now
from queueapi.clusters.access import Rules as ClusterRules
from queueapi.clusters.access import load_rules as load_cluster_rules
from queueapi.config import Settings
from queueapi.db.prepared import Prepared
from queueapi.db.session import Database, is_away
from queueapi.errors import Problem
from queueapi.jobs.admission import Grounds, Submission, decide
from queueapi.jobs.allowances import USED, load_allowances
from queueapi.jobs.limits import Admission, Allowance, Membership
from queueapi.jobs.models import OnDependencyFailure
from queueapi.jobs.storing import KEYS, keys_of, rows_of, storing
from queueapi.jobs.submit import Accepted
from queueapi.queues.admission import Rules as QueueRules
from queueapi.queues.admission import load_rules as load_queue_rules

log = structlog.get_logger(__name__)

_MOST_USERS: Final = 1000  # that are remembered
# Each change of a row gives it another xmin or another place.
_STAMP: Final = """concat_ws(';',
    (SELECT string_agg(concat(q.ctid, q.xmin), ',' ORDER BY q.name) FROM queues q),
    (SELECT string_agg(concat(c.ctid, c.xmin), ',' ORDER BY c.name) FROM clusters c),
    (SELECT string_agg(concat(a.ctid, a.xmin), ',' ORDER BY a.cluster)
     FROM cluster_accounts a WHERE a.user_id = {user}),
    (SELECT string_agg(concat(m.ctid, m.xmin, g.ctid, g.xmin), ',' ORDER BY g.id)
     FROM memberships m JOIN groups g ON g.id = m.group_id WHERE m.user_id = {user}))
"""
_LOOK: Final = text(f"SELECT {_STAMP.format(user='CAST(:user AS bigint)')}")
_FIT: Final = f"""
    asked AS MATERIALIZED (
        SELECT * FROM unnest(CAST(:users AS bigint[]), CAST(:rooms AS int[]),
                             CAST(:stamps AS text[])) AS asked (user_id, room, stamp)
    ), counts AS MATERIALIZED (
        SELECT user_id, active FROM submitted_counts
        WHERE user_id = ANY(CAST(:users AS bigint[])) ORDER BY user_id FOR UPDATE
    ), taking AS MATERIALIZED (
        SELECT name FROM queues
        WHERE name = ANY(CAST(:named AS text[])) ORDER BY name FOR KEY SHARE
    ), fit AS MATERIALIZED (
        SELECT (SELECT bool_and(a.stamp = {_STAMP.format(user="a.user_id")}) FROM asked a)
        AND (SELECT count(*) FROM taking) = cardinality(CAST(:named AS text[]))
        AND NOT EXISTS (
            SELECT FROM unnest(CAST(:charged AS bigint[]), CAST(:minutes AS float8[]),
                               CAST(:quotas AS float8[])) AS c (group_id, minutes, quota)
            WHERE {USED.format(group="c.group_id")} + c.minutes > c.quota)
        AND NOT EXISTS (
            SELECT FROM idempotency_keys
            JOIN json_to_recordset(CAST(:keys AS json)) AS k(user_id bigint, key text)
                USING (user_id, key))
        AND (SELECT count(*) FROM counts JOIN asked USING (user_id) WHERE active <= room)
            = cardinality(CAST(:users AS bigint[]))
        AS all
    ),
"""  # noqa: S608 - nobody's text but ours
# A key that somebody else stores at this moment undoes the whole statement.
_KEYED: Final = f"""
    INSERT INTO idempotency_keys (user_id, key, body_hash, job_ids)
    {KEYS} WHERE EXISTS (SELECT FROM new) RETURNING 1
"""
_STORE: Final = text(
    storing(before=_FIT, only_if="(SELECT fit.all FROM fit)", counted="true", keyed=_KEYED)
)


@dataclass(frozen=True, slots=True)
class _Known:
    """What was read for one person."""

    stamp: str
    queues: Sequence[QueueRules]
    clusters: Sequence[ClusterRules]
    memberships: Mapping[str, Membership]  # as if nothing was used: the statement adds that up


@dataclass(slots=True)
class _Decided:
    """Where jobs belong as far as is known, and on what that depends."""

    admitted: list[Sequence[Admission]] = field(default_factory=list)  # by submission
    stamps: dict[int, str] = field(default_factory=dict)  # by user
    rooms: dict[int, int] = field(default_factory=dict)  # by user; jobs that they may have already
    minutes: dict[int, float] = field(default_factory=dict)  # by group; the most that a job may use
    quotas: dict[int, float] = field(default_factory=dict)  # by group

    def take(self, submission: Submission, places: Sequence[Admission], count: int) -> None:
        """`count`: of the user's jobs here, with these."""
        user = submission.principal.user_id
        room = min(place.group.max_submitted for place in places) - count
        self.rooms[user] = min(room, self.rooms.get(user, room))
        self.admitted.append(places)
        for job, place in zip(submission.jobs, places, strict=True):
            group = place.group.group_id
            self.minutes[group] = max(job.cpu_minutes, self.minutes.get(group, 0.0))
            self.quotas[group] = place.group.quota

    @property
    def is_simple(self) -> bool:
        """Whether no queue counts its jobs."""
        return all(p.queue.max_submitted_per_user is None for ps in self.admitted for p in ps)

    def conditions(self) -> dict[str, Any]:
        return {
            "users": list(self.rooms),
            "rooms": list(self.rooms.values()),
            "stamps": [self.stamps[user] for user in self.rooms],
            "named": list({p.queue.name for places in self.admitted for p in places}),
            "charged": list(self.minutes),
            "minutes": list(self.minutes.values()),
            "quotas": list(self.quotas.values()),
        }


class Outright:
    """What is known, and submits on it."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._store_all = Prepared(database, _STORE)
        self._settings = settings
        self._known: OrderedDict[int, _Known] = OrderedDict()  # by user; who came last is last

    async def submit(self, submissions: Sequence[Submission]) -> list[Accepted] | None:
        """None: nothing was stored, and what is read now must decide.

        Raises what the database raises where nobody knows whether they were stored.
        """
        decided = self._decide(submissions)
        stored = await self._store(submissions, decided) if decided is not None else None
        if decided is None or stored is None or stored["ids"] is None:
            for submission in submissions:
                self._known.pop(submission.principal.user_id, None)
            return None
        ids = iter(stored["ids"])
        return [
            Accepted([next(ids) for _ in places], stored["created_at"], places)
            for places in decided.admitted
        ]

    def close(self) -> None:
        """To be called when nobody submits any more."""
        self._store_all.close()

    async def learn(self, submissions: Sequence[Submission]) -> None:
        """Read what the next submits of these people are decided on."""
        people = {s.principal.user_id for s in submissions if _is_plain(s)}
        for user in people - self._known.keys():
            try:
                self._known[user] = await self._read(user)
            except Exception as error:  # whoever submits next waits for nothing of this
                if not is_away(error):
                    log.exception("not_learned", user_id=user)
        while len(self._known) > _MOST_USERS:
            self._known.popitem(last=False)

    async def _read(self, user: int) -> _Known:
        async with self._database.transaction() as session:
            # The stamp comes first: what is changed meanwhile has another, and is read again.
            stamp = await session.scalar(_LOOK, {"user": user})
            queues = await load_queue_rules(session)
            clusters = await load_cluster_rules(session, [user])
            read = await load_allowances(session, self._settings, (), [user], lock=False)
        memberships = {m.name: replace(m, used=0.0) for m in read[user].memberships.values()}
        return _Known(stamp or "", queues, clusters, memberships)

    def _decide(self, submissions: Sequence[Submission]) -> _Decided | None:
        decided = _Decided()
        allowances: dict[int, Allowance] = {}
        for submission in submissions:
            user = submission.principal.user_id
            known = self._known.get(user)
            if known is None or not _is_plain(submission):
                return None
            self._known.move_to_end(user)
            decided.stamps[user] = known.stamp
            allowances.setdefault(user, Allowance(0, dict(known.memberships)))
            grounds = Grounds(utc_now(), known.queues, known.clusters, allowances, {}, {}, {})
            try:
                places = decide(self._settings, submission, grounds)
            except Problem:
                return None
            decided.take(submission, places, allowances[user].active)
        return decided if decided.is_simple else None

    async def _store(self, submissions: Sequence[Submission], decided: _Decided) -> Record | None:
        keys = keys_of(submissions, range(len(submissions)))
        if len({(key["user_id"], key["key"]) for key in keys}) < len(keys):
            return None  # one after the other
        values = rows_of(submissions, dict(enumerate(decided.admitted)))
        values |= decided.conditions() | {"keys": json.dumps(keys)}
        try:
            return await self._store_all.ask(values)
        except PostgresError as error:
            if is_away(error):
                raise
            return None  # undone; the other way finds out why


def _is_plain(submission: Submission) -> bool:
    """Whether its jobs need nothing but to be stored."""
    return submission.graph is None and not any(
        job.depends_on
        or job.array
        or job.reservation
        or job.executable
        or job.data
        or job.on_dependency_failure is not OnDependencyFailure.CANCEL
        for job in submission.jobs
    )
