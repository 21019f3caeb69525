"""What jobs need of a cluster, or of an account there, tried from this server."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import asdict

from queueapi.clusters.catalogue import Places
from queueapi.clusters.cluster_schemas import CheckDocument, ClusterTest
from queueapi.errors import Conflict, Unavailable
from queueapi.executors.accounts import Account, HasAccounts
from queueapi.executors.base import Check, Executor

TEST_SECONDS = 120.0


async def try_out(places: Places, name: str) -> ClusterTest:
    """Try each thing that jobs need there."""
    return await _document(_executor(places, name).check())


async def try_account(places: Places, name: str, account: Account) -> ClusterTest:
    """Likewise each thing that jobs need of this account."""
    executor = _executor(places, name)
    if why := places.problem(name):
        raise Unavailable(f"The cluster {name} can't be reached now: {why}.", retry_after=10)
    if not isinstance(executor, HasAccounts):
        raise Conflict(f"The cluster {name} has no accounts of users.")
    return await _document(executor.check_account(account))


def _executor(places: Places, name: str) -> Executor:
    executor = places.get(name)
    if executor is None:
        raise Unavailable(
            f"This server has not heard of the cluster {name} yet. Try again.", retry_after=2
        )
    return executor


async def _document(trial: Awaitable[Sequence[Check]]) -> ClusterTest:
    try:
        async with asyncio.timeout(TEST_SECONDS):
            checks = list(await trial)
    except TimeoutError:
        remedy = "look at the host's load and at the network between"
        checks = [Check("an answer", False, f"none in {TEST_SECONDS:g} s", remedy)]
    documents = [CheckDocument(**asdict(check)) for check in checks]
    return ClusterTest(ok=all(check.ok for check in checks), checks=documents)
