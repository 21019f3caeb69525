"""How documents look to people."""

from collections.abc import Iterable, Sequence

from queueapi.cli.output import Table
from queueapi.cli.quantities import local_time, span
from queueapi.client.clusters import Cluster, ClusterTest
from queueapi.client.files import JobFile
from queueapi.client.hosts import Host
from queueapi.client.models import (
    ENDED,
    Document,
    Event,
    GroupSummary,
    Job,
    JobDetail,
    Priority,
    Queue,
    QueuePage,
    SchedulerStatus,
    StartRange,
    User,
)
from queueapi.client.nodes import Node, Reservation


def jobs(found: Iterable[Job]) -> Table:
    headers = ("ID", "NAME", "STATUS", "REASON", "USER", "GROUP", "CPUS", "MEMORY", "GPUS", "LIMIT")
    rows = [
        (
            str(job.id),
            job.name,
            job.status,
            job.reason or _progress(job),
            job.user,
            job.group,
            _cpus(job.nodes, job.cpu_cores),
            f"{job.memory_gb:g}G",
            _gpus(job.gpu_count, job.gpu_type),
            span(job.estimated_hours * 3600),
        )
        for job in found
    ]
    return Table(headers, rows)


def _cpus(nodes: int, count: int) -> str:
    return f"{nodes}×{count}" if nodes > 1 else str(count)


def _counts(job: Job) -> dict[str, int]:
    """An array's tasks by status; the statuses that no task has are left out."""
    found = job.array.tasks.model_dump() if job.array else {}
    return {status: count for status, count in found.items() if count}


def _progress(job: Job) -> str:
    if job.array is None:
        return ""
    ended = sum(count for status, count in _counts(job).items() if status in ENDED)
    return f"{ended}/{job.array.task_count} ended"


def tasks(found: Iterable[Job]) -> Table:
    rows = [
        (
            str(task.array_index),
            str(task.id),
            task.status,
            task.reason or "",
            "" if task.exit_code is None else str(task.exit_code),
            local_time(task.started_at),
            local_time(task.completed_at),
        )
        for task in found
    ]
    return Table(("INDEX", "ID", "STATUS", "REASON", "EXIT", "STARTED", "ENDED"), rows)


def _gpus(count: int, kind: str | None) -> str:
    return f"{count} {kind}" if count and kind else str(count)


def factors(priority: Priority | None) -> str:
    if priority is None:
        return ""
    factor = "" if priority.queue_factor == 1 else f"× {priority.queue_factor:g} "
    return (
        f"{priority.final:.3f} = {priority.base} {factor}× {priority.fair_share:.3f} "
        f"× {priority.wait_boost:.3f}"
    )


def job(found: JobDetail) -> Table:
    """What is known of it, and what it wrote last."""
    last = found.attempts[-1] if found.attempts else None
    peak = last.peak_memory_mb if last else None
    rows = [
        ("id", str(found.id)),
        ("name", found.name),
        ("array", found.array.indices if found.array else ""),
        ("task of", f"array {found.array_id}, index {found.array_index}" if found.array_id else ""),
        ("status", found.status),
        ("tasks", ", ".join(f"{count} {status}" for status, count in _counts(found).items())),
        ("reason", found.reason or ""),
        ("that is", found.reason_message or ""),
        ("exit code", "" if found.exit_code is None else str(found.exit_code)),
        ("user", found.user),
        ("group", found.group),
        ("queue", found.queue),
        ("tags", ", ".join(found.tags)),
        ("nodes", str(found.nodes) if found.nodes > 1 else ""),
        ("tasks", str(found.tasks) if found.tasks > 1 else ""),
        ("constraint", found.constraint or ""),
        ("exclusive", "yes" if found.exclusive else ""),
        ("reservation", found.reservation or ""),
        ("CPUs", str(found.cpu_cores)),
        ("memory", f"{found.memory_gb:g}G"),
        ("GPUs", _gpus(found.gpu_count, found.gpu_type)),
        ("time limit", span(found.estimated_hours * 3600)),
        ("priority", factors(found.priority_factors) or str(found.priority)),
        ("position", str(found.position or "")),
        ("expected start", expected(found.estimated_start_range)),
        ("submitted", local_time(found.created_at)),
        ("started", local_time(found.started_at)),
        ("ended", local_time(found.completed_at)),
        ("node", ", ".join(f"{last.cluster}/{n.node}" for n in last.nodes) if last else ""),
        ("attempts", str(len(found.attempts) or "")),
        ("peak memory", f"{peak:.0f}M" if peak is not None else ""),
        ("CPU-minutes", f"{found.usage.cpu_minutes:.2f}" if found.ended else ""),
        ("stdout", found.stdout_tail[-1000:].rstrip()),
        ("stderr", found.stderr_tail[-1000:].rstrip()),
    ]
    return Table((), [(name, value) for name, value in rows if value])


def expected(given: StartRange | None) -> str:
    if given is None:
        return ""
    return f"{local_time(given.p50)} (half of such jobs), {local_time(given.p90)} (nine of ten)"


def why(found: JobDetail) -> Table:
    """Why it waits and until when; or how else it stands."""
    last = found.attempts[-1] if found.attempts else None
    unmet = [d for d in found.depends_on if d.state != "satisfied"]
    rows = [
        ("status", f"{found.status}, held" if found.held else found.status),
        ("reason", found.reason or ""),
        ("that is", found.reason_message or ""),
        *(("waits for", f"{d.kind} {d.job_id} ({d.status or 'deleted'})") for d in unmet),
        ("position", str(found.position or "")),
        ("priority", factors(found.priority_factors)),
        ("expected start", expected(found.estimated_start_range)),
        ("queued", local_time(found.queued_at) if found.status == "queued" else ""),
        ("started", local_time(found.started_at)),
        ("node", ", ".join(n.node for n in last.nodes) if last and not found.ended else ""),
        ("ended", local_time(found.completed_at)),
        ("exit code", "" if found.exit_code is None else str(found.exit_code)),
    ]
    return Table((), [(name, value) for name, value in rows if value])


def events(found: Sequence[Event]) -> Table:
    headers = ("AT", "EVENT", "STATUS", "REASON", "ATTEMPT", "MESSAGE")
    rows = [
        (local_time(e.at), e.kind, e.status, e.reason or "", e.attempt or "", e.message or "")
        for e in found
    ]
    return Table(headers, rows)


def files(found: Iterable[JobFile]) -> Table:
    rows = [
        (f.kind, str(f.size) if f.kind == "file" else "", local_time(f.modified_at), f.path)
        for f in found
    ]
    return Table(("KIND", "BYTES", "CHANGED", "PATH"), rows)


def queue(page: QueuePage) -> Table:
    headers = ("POSITION", "ID", "NAME", "USER", "GROUP", "CPUS", "MEMORY", "LIMIT", "PRIORITY")
    rows = [
        (
            str(entry.position or ""),
            str(entry.job_id),
            entry.name,
            entry.user,
            entry.group,
            _cpus(entry.nodes, entry.cpu_cores),
            f"{entry.memory_gb:g}G",
            span(entry.estimated_hours * 3600),
            factors(entry.priority),
            local_time(entry.estimated_start),
            f"{entry.reason}: {entry.reason_message}" if entry.reason_message else entry.reason,
        )
        for entry in page.entries
    ]
    return Table((*headers, "EXPECTED START", "WAITS FOR"), rows)


def groups(found: Iterable[GroupSummary]) -> Table:
    rows = [(str(g.id), g.name, g.join_policy, g.role or "", g.status or "") for g in found]
    return Table(("ID", "NAME", "JOIN POLICY", "YOUR ROLE", "STATUS"), rows)


def queues(found: Iterable[Queue]) -> Table:
    headers = ("NAME", "STATE", "LIMIT", "ROUTED", "FACTOR", "WAITING", "RUNNING", "GROUPS")
    rows = [
        (
            queue.name,
            queue.state,
            span(queue.max_estimated_hours * 3600),
            "yes" if queue.is_routed else "no",
            f"{queue.priority_factor:g}",
            str(queue.waiting),
            str(queue.running),
            "all" if queue.groups is None else ", ".join(queue.groups),
        )
        for queue in found
    ]
    return Table(headers, rows)


def document(found: Document) -> Table:
    """All fields that have a value, for what has no view of its own."""
    values = found.model_dump(mode="json")
    return Table(
        (), [(name.replace("_", " "), str(v)) for name, v in values.items() if v is not None]
    )


def users(found: Iterable[User]) -> Table:
    rows = [
        (str(u.id), u.email, u.role, "yes" if u.is_active else "no", local_time(u.created_at))
        for u in found
    ]
    return Table(("ID", "EMAIL", "ROLE", "ACTIVE", "SINCE"), rows)


def nodes(found: Iterable[Node]) -> Table:
    headers = ("CLUSTER", "NAME", "STATE", "CPUS FREE", "MEMORY FREE", "GPUS FREE", "FEATURES")
    rows = [
        (
            n.cluster,
            n.name,
            n.state,
            f"{n.free.cpus} of {n.total.cpus}",
            f"{n.free.memory_gb:g}G of {n.total.memory_gb:g}G",
            f"{len(n.free.gpus)} of {len(n.total.gpus)}",
            ",".join(n.features),
            n.reason or "",
        )
        for n in found
    ]
    return Table((*headers, "REASON"), rows)


def scheduler(found: SchedulerStatus) -> Table:
    policy, cycle, quality = found.policy, found.last_cycle, found.estimates
    weights = ", ".join(f"{name} {weight:g}" for name, weight in policy.weights.items())
    leader = found.leader
    rows = [
        ("leader", f"{leader.server}, since {local_time(leader.since)} (epoch {leader.epoch})"),
        ("waiting", str(found.waiting)),
        ("running", f"{found.running} of {policy.max_running}"),
        ("fairness", f"{policy.fairness}, {policy.fair_share_min:g} to {policy.fair_share_max:g}"),
        ("half-life", f"{policy.half_life_days:g} days"),
        ("weights", weights),
        ("backfill", f"{policy.backfill}, {policy.reservations} reserved"),
    ]
    if cycle is not None:
        rows.append(
            ("last cycle", f"{local_time(cycle.finished_at)}, {cycle.seconds * 1000:.1f} ms")
        )
    if quality.p50_hit_rate is not None and quality.p90_hit_rate is not None:
        kept = f"half: {quality.p50_hit_rate:.0%}, nine of ten: {quality.p90_hit_rate:.0%}"
        rows.append(("estimates kept", f"{kept}, of {quality.outcomes}"))
    return Table((), rows)


def hosts(found: Iterable[Host]) -> Table:
    headers = ("NAME", "CLUSTER", "STATE", "SERVERS", "REASON")
    rows = []
    for host in found:
        servers = [f"{s.process}{' (leads)' if s.leads else ''}" for s in host.servers]
        why = host.reason or ""
        rows.append((host.name, host.cluster or "", host.state, ", ".join(servers), why))
    return Table(headers, rows)


def reservations(found: Iterable[Reservation]) -> Table:
    headers = ("NAME", "KIND", "CLUSTER", "NODES", "FROM", "TO", "FOR YOU", "GROUPS", "NOTE")
    rows = [
        (
            r.name,
            r.kind,
            r.cluster,
            ",".join(r.nodes) or "all",
            local_time(r.starts_at),
            local_time(r.ends_at),
            "yes" if r.admits_you else "no",
            ", ".join([*r.groups, *r.users]),
            r.note or "",
        )
        for r in found
    ]
    return Table(headers, rows)


def clusters(found: Iterable[Cluster]) -> Table:
    rows = [
        (
            one.name,
            one.kind,
            one.state,
            ", ".join(one.partitions) or "all",
            "shared" if one.is_community_account else "",
            one.reason or one.problem or "",
        )
        for one in found
    ]
    return Table(("NAME", "KIND", "STATE", "PARTITIONS", "ACCOUNT", "REASON"), rows)


def checks(found: ClusterTest) -> Table:
    rows = [
        ("ok" if check.ok else "WRONG", check.name, check.found, check.remedy or "")
        for check in found.checks
    ]
    return Table(("", "NEEDED", "FOUND", "TO MEND IT"), rows)
