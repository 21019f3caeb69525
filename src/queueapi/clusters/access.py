"""Whether a cluster takes a job: pure, so that a submit and a launch decide alike."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from queueapi.clusters.caps import Ask, Caps, caps_of, excess
from queueapi.clusters.models import PLAIN_KINDS, Cluster, ClusterAccount, ClusterState
from queueapi.clusters.offers import read_offer
from queueapi.errors import Conflict, FieldError, Forbidden, LimitExceeded, NotFound, Problem
from queueapi.executors.base import is_image_of
from queueapi.executors.data import DataRules, Scheme, parse_target
from queueapi.executors.offer import Demand, Offer, never

SiteWords = tuple[tuple[str, str], ...]  # words of a cluster's own with their values, in order


@dataclass(frozen=True, slots=True)
class Who:
    """Whose job it is."""

    email: str
    user_id: int
    group_id: int  # that is charged


@dataclass(frozen=True, slots=True)
class People:
    emails: tuple[str, ...] = ()  # shell patterns
    users: frozenset[int] = frozenset()
    groups: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.emails or self.users or self.groups)

    def match(self, who: Who) -> str | None:
        """In words, what names this person's job here; nothing of what it says of others."""
        if who.user_id in self.users:
            return who.email
        if who.group_id in self.groups:
            return "the group that you charge"
        return next((p for p in self.emails if fnmatchcase(who.email.lower(), p)), None)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a cluster asks of jobs."""

    name: str
    kind: str
    state: ClusterState
    reason: str | None  # why it is not up
    partitions: tuple[str, ...]
    caps: Caps
    is_community_account: bool
    images: tuple[str, ...]  # patterns of the images of containers that it allows
    allow: People
    deny: People
    defaults: SiteWords = ()  # for what a job leaves out
    offer: Offer | None = None  # what it could ever give; None = that is not known
    data: DataRules = field(default_factory=DataRules)  # what jobs may fetch there
    # Where each user's jobs run under their own account: who has a key there, by user id, and
    # whether it was seen to work. None = all run under the cluster's.
    accounts: Mapping[int, bool] | None = None


def site_words(words: Mapping[str, str] | None) -> SiteWords:
    return tuple(sorted((words or {}).items()))


@dataclass(frozen=True, slots=True)
class Wish:
    """A job, as far as it matters to clusters."""

    who: Who
    ask: Ask
    cluster: str | None = None  # that it names
    kind: str | None = None  # of cluster that it must be
    gpu_type: str | None = None
    constraint: str | None = None  # features of each node: "a&b|c"
    site: SiteWords = ()  # such as a partition, which not every kind knows
    image: str | None = None  # of the container that it runs in
    data: str | None = None  # the target of what it fetches


async def load_rules(session: AsyncSession, users: Collection[int] | None = None) -> list[Rules]:
    """Of all clusters, by name. `users`: whose accounts there matter; None = everybody's."""
    rows = await session.scalars(select(Cluster).order_by(Cluster.name))
    rules = [rules_of(row) for row in rows]
    if all(each.accounts is None for each in rules):
        return rules
    statement = select(
        ClusterAccount.cluster, ClusterAccount.user_id, ClusterAccount.tested_at.is_not(None)
    )
    if users is not None:
        statement = statement.where(ClusterAccount.user_id.in_(users))
    found: dict[str, dict[int, bool]] = {}
    for cluster, user_id, works in await session.execute(statement):
        found.setdefault(cluster, {})[user_id] = works
    return [r if r.accounts is None else replace(r, accounts=found.get(r.name, {})) for r in rules]


def rules_of(row: Cluster) -> Rules:
    return Rules(
        name=row.name,
        kind=row.kind,
        state=ClusterState(row.state),
        reason=row.reason,
        partitions=tuple(row.partitions),
        caps=caps_of(row.kind, row.caps),
        is_community_account=row.is_community_account,
        images=tuple(row.options.get("container_images", ())),
        allow=People(
            tuple(row.allow_emails), frozenset(row.allow_users), frozenset(row.allow_groups)
        ),
        deny=People(tuple(row.deny_emails), frozenset(row.deny_users), frozenset(row.deny_groups)),
        defaults=site_words(row.defaults),
        offer=read_offer(row.offer) if row.offer is not None else None,
        data=_data_rules(row.options),
        accounts={} if row.user_accounts else None,
    )


def _data_rules(options: Mapping[str, Any]) -> DataRules:
    """Options that are no sense let nothing be fetched but what is public."""
    try:
        return DataRules.read(options)
    except ValueError:
        return DataRules()


def admits(rules: Rules, who: Who) -> bool:
    return not rules.deny.match(who) and (not rules.allow or bool(rules.allow.match(who)))


def usable(clusters: Iterable[Rules], wish: Wish) -> list[str]:
    """The names of the clusters where the job may run, now or when they are up again.

    Where none of them has what it needs, all: it was taken before that was known, and the plan or
    the launch tells why it can't run.
    """
    wanted = (rules for rules in clusters if wish.cluster in (None, rules.name))
    open_to_it = [rules for rules in wanted if _closed(rules, wish) is None]
    able = [rules.name for rules in open_to_it if _offer(rules, wish) is None]
    return able or [rules.name for rules in open_to_it]


def check(clusters: Sequence[Rules], wish: Wish) -> None:
    """Raises a Problem for a job that no cluster takes."""
    if wish.cluster is not None:
        problem = _named(clusters, wish, wish.cluster)
    else:
        refusals = [(rules, refusal(rules, wish)) for rules in clusters]
        if not all(problem for _, problem in refusals):
            return
        visible = [(r, p) for r, p in refusals if p is not None and admits(r, wish.who)]
        problem = _nowhere(visible)
    if problem is not None:
        raise problem


def _named(clusters: Sequence[Rules], wish: Wish, name: str) -> Problem | None:
    rules = next((rules for rules in clusters if rules.name == name), None)
    if rules is not None:
        return refusal(rules, wish)
    own = ", ".join(rules.name for rules in clusters if admits(rules, wish.who)) or "none"
    return NotFound(
        f"There is no cluster named {name!r}. Yours: {own}. Without `cluster`, the scheduler "
        "chooses among them.",
        errors=[FieldError("/cluster", "name a cluster that you may use, or leave it out")],
    )


def _nowhere(refusals: Sequence[tuple[Rules, Problem]]) -> Problem:
    if not refusals:
        return Forbidden("No cluster takes your jobs. Ask an administrator to let you use one.")
    if len(refusals) == 1:
        return refusals[0][1]
    words = " ".join(problem.detail for _, problem in refusals)
    return Conflict(f"No cluster that you may use takes this job. {words}")


def refusal(rules: Rules, wish: Wish) -> Problem | None:
    """Why the cluster does not take the job. It tells nothing of what it says of others."""
    return _closed(rules, wish) or _offer(rules, wish)


def _closed(rules: Rules, wish: Wish) -> Problem | None:
    checks = (_kind, _account, _image, _data, _site_words, _caps)
    return _who(rules, wish.who) or next(filter(None, (c(rules, wish) for c in checks)), None)


def _who(rules: Rules, who: Who) -> Problem | None:
    if (rule := rules.deny.match(who)) is not None:
        return Forbidden(f"The cluster {rules.name} does not take your jobs: it denies {rule}.")
    if rules.allow and rules.allow.match(who) is None:
        return Forbidden(
            f"The cluster {rules.name} takes jobs of those alone whom its rules allow, and they "
            f"name neither {who.email} nor the group that you charge. Charge another group, name "
            "another cluster, or ask an administrator."
        )
    return None


def _kind(rules: Rules, wish: Wish) -> Problem | None:
    name = rules.name
    if rules.state is ClusterState.DOWN:
        why = f": {rules.reason}" if rules.reason else ""
        return Conflict(f"The cluster {name} is out of use{why}. Name another one.")
    if wish.kind is not None and rules.kind != wish.kind:
        return Conflict(
            f"The cluster {name} is of the kind {rules.kind}, and the job is for {wish.kind}.",
            errors=[FieldError("/provider", "leave it out, or let it be auto")],
        )
    return None


def _account(rules: Rules, wish: Wish) -> Problem | None:
    if rules.accounts is None or rules.accounts.get(wish.who.user_id):
        return None
    name = rules.name
    if wish.who.user_id not in rules.accounts:
        return Conflict(
            f"On the cluster {name} everybody's jobs run under their own account, and you have "
            f"stored no key for yours. PUT /api/clusters/{name}/account stores one, or `queueapi "
            f"key set {name}`."
        )
    return Conflict(
        f"Your key for the cluster {name} was not seen to open your account there. POST "
        f"/api/clusters/{name}/account/test tries it and says what is wrong, or `queueapi key "
        f"test {name}`."
    )


def _image(rules: Rules, wish: Wish) -> Problem | None:
    name = rules.name
    if rules.is_community_account and wish.image is None:
        return Conflict(
            f"On the cluster {name} everybody's jobs run under one account, so that it takes "
            "container jobs only. Name another cluster for a plain script."
        )
    if wish.image is not None and not any(is_image_of(wish.image, each) for each in rules.images):
        return Conflict(
            f"The cluster {name} does not run containers of the image {wish.image}. Its images: "
            f"{', '.join(rules.images) or 'none'}.",
            errors=[FieldError("/container/image", "name an image that the cluster allows")],
        )
    return None


def _data(rules: Rules, wish: Wish) -> Problem | None:
    if wish.data is None:
        return None
    target = parse_target(wish.data)
    why = rules.data.refusal(target)
    if target.scheme is Scheme.SFTP and rules.kind in PLAIN_KINDS:
        why = "jobs on a machine of servers have no keys for sftp"
    if why is None:
        return None
    return Conflict(
        f"The cluster {rules.name} does not fetch these data: {why}. An administrator may allow "
        "more hosts and paths in the cluster's options.",
        errors=[FieldError("/data/target", "name what the cluster lets jobs fetch")],
    )


def _site_words(rules: Rules, wish: Wish) -> Problem | None:
    name = rules.name
    if wish.site and rules.kind in PLAIN_KINDS:
        return Conflict(
            f"The cluster {name} has no partitions, accounts, QOS or GRES. Leave them out, or name "
            "another cluster.",
            errors=[FieldError("/slurm", "leave out partition, account, qos and gres")],
        )
    partition = dict(wish.site).get("partition")
    if partition is not None and rules.partitions and partition not in rules.partitions:
        return Conflict(
            f"Jobs may not use the partition {partition} of the cluster {name}. Its "
            f"partitions: {', '.join(rules.partitions)}.",
            errors=[FieldError("/slurm/partition", "name a partition that jobs may use")],
        )
    return None


def _offer(rules: Rules, wish: Wish) -> Problem | None:
    if rules.offer is None:
        return None
    site = dict(rules.defaults) | dict(wish.site)
    named = site.get("partition")
    ask = wish.ask
    demand = Demand(
        ask.nodes,
        ask.cpus,
        ask.memory_mb,
        ask.gpus,
        ask.time_limit,
        wish.gpu_type,
        wish.constraint,
        partitions=tuple(named.split(",")) if named else rules.partitions,
        account=site.get("account"),
        qos=site.get("qos"),
        gres=site.get("gres"),
    )
    refused = never(rules.offer, demand)
    if refused is None:
        return None
    return Conflict(
        f"The cluster {rules.name} can never run this job: {refused.why}.",
        errors=[FieldError(refused.field, "ask for what the cluster has, or name another one")],
    )


def _caps(rules: Rules, wish: Wish) -> Problem | None:
    over = excess(rules.caps, wish.ask)
    if over is None:
        return None
    return LimitExceeded(
        f"The cluster {rules.name} takes jobs of up to {over.cap:g} {over.name}, and this one asks "
        f"for {over.asked:g}. Change {over.field}, name another cluster, or have an administrator "
        "raise the cap.",
        limit_name=over.name,
        limit=over.cap,
        used=0,
        requested=over.asked,
    )
