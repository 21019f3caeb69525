"""The composition root: makes the parts, joins them, and ends them in order."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from fastapi import FastAPI
from starlette.types import Lifespan

from queueapi import __version__
from queueapi.access import Access
from queueapi.api import install_error_handlers, mount_routers
from queueapi.auth.principals import Principals
from queueapi.auth.throttle import Throttle
from queueapi.clusters.models import BUILT_IN, OWN_KIND
from queueapi.clusters.secrets import Vault
from queueapi.clusters.stored_accounts import StoredAccounts
from queueapi.config import ConfigurationError, Settings
from queueapi.controller.asking import LeaderView
from queueapi.controller.clusters import ClusterWatch
from queueapi.controller.loop import Controller
from queueapi.db.migrate import migrate
from queueapi.db.session import Database
from queueapi.doctor.check import Premises
from queueapi.doctor.routine import Routine
from queueapi.executors.base import ClusterConfig, Contents, Executor, NodeInventory
from queueapi.executors.local import LocalConfig, LocalExecutor
from queueapi.executors.null import NullExecutor
from queueapi.executors.registry import Registry
from queueapi.executors.slurm.executor import SlurmExecutor
from queueapi.files.receiving import MIB, Uploads
from queueapi.files.stored import StoredContents
from queueapi.jobs.changes import ChangeFeed
from queueapi.jobs.group_commit import GroupCommit
from queueapi.openapi import describe
from queueapi.servers.answers import Answers
from queueapi.servers.homecoming import ending_what_was_given_up
from queueapi.servers.host_executor import HostExecutor, answer_for_host
from queueapi.servers.hosts import host_id, leave, settle
from queueapi.servers.identity import Identity, new_identity
from queueapi.servers.peers import Peers

MEBIBYTES_PER_GIB = 1024


def local_config(settings: Settings) -> LocalConfig:
    memory_gb, reserve_cpus = settings.local_memory_gb, settings.local_reserve_cpus
    if reserve_cpus is None:
        reserve_cpus = len(os.sched_getaffinity(0)) // 8
    return LocalConfig(
        data_dir=settings.data_dir,
        grace_seconds=settings.local_grace_seconds,
        log_cap_bytes=settings.log_cap_bytes,
        max_processes=settings.local_max_processes,
        max_file_bytes=int(settings.local_max_file_gb * 1024**3),
        account=settings.local_account,
        sandbox=settings.local_sandbox,
        reserve_cpus=reserve_cpus,
        reserve_memory_mb=int(settings.local_reserve_memory_gb * MEBIBYTES_PER_GIB),
        cpus=settings.local_cpus,
        memory_mb=int(memory_gb * MEBIBYTES_PER_GIB) if memory_gb is not None else None,
        features=local_features(settings),
    )


def local_features(settings: Settings) -> tuple[str, ...]:
    return tuple(filter(None, (word.strip() for word in settings.local_features.split(","))))


def make_registry(settings: Settings, database: Database, peers: Peers, vault: Vault) -> Registry:
    """The kinds of clusters that there can be, and this machine, which is always one."""
    contents, accounts = StoredContents(database), StoredAccounts(database, vault)

    def local(cluster: ClusterConfig) -> Executor:
        if cluster.owner not in (None, registry.host):
            return HostExecutor(database, peers, cluster.owner, cluster.name)
        own = Path(cluster.root) if cluster.root else settings.data_dir / "clusters" / cluster.name
        return LocalExecutor(replace(local_config(settings), data_dir=own), contents)

    registry = Registry(
        {
            "local": local,
            "null": lambda cluster: NullExecutor(),
            "slurm": lambda cluster: SlurmExecutor(cluster, contents, accounts),
        }
    )
    registry.build_in(BUILT_IN, this_machine(settings, contents))
    return registry


def this_machine(settings: Settings, contents: Contents) -> Executor:
    if settings.executor == "null":
        cpus, features = settings.local_cpus or 64, local_features(settings)
        node = NodeInventory("null", cpus, 256 * MEBIBYTES_PER_GIB, (), features)
        return NullExecutor([node])
    return LocalExecutor(local_config(settings), contents)


def create_app(settings: Settings) -> FastAPI:
    """The application. Raises ConfigurationError for settings that it can't run with.

    Parts start in the order in which they need each other when the lifespan begins, and end in
    the reverse order; running jobs go on.
    """
    me = new_identity()
    database = _database(settings, me)
    feed = ChangeFeed(database)
    answers, peers = Answers(settings, me.id), Peers(settings)
    vault = Vault(settings)
    executors = make_registry(settings, database, peers, vault)
    answer_for_host(answers, executors)
    group_commit = GroupCommit(database, settings)
    controller = Controller(settings, database, executors, feed)
    doctor = Routine(Premises(database, settings, executors), lambda: controller.view.leads)
    clusters = ClusterWatch(settings, database, executors, feed, vault)
    view = LeaderView(controller.view, peers, answers)
    principals = Principals(database, settings)
    throttle = Throttle(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(database.close)
            stack.push_async_callback(throttle.close)
            stack.push_async_callback(peers.close)
            await migrate(database)
            host = await _settle(settings, database, executors)
            stack.push_async_callback(executors.close)
            await executors.start(controller.hint)
            await feed.start()
            stack.push_async_callback(feed.close)
            await clusters.start()
            stack.push_async_callback(clusters.close)
            await group_commit.start()
            stack.push_async_callback(group_commit.close)
            address = await answers.start()
            stack.push_async_callback(answers.close)
            stack.push_async_callback(leave, database, me.id)
            await controller.start(replace(me, host=host, address=address))
            stack.push_async_callback(controller.close)
            await doctor.start()
            stack.push_async_callback(doctor.close)
            await stack.enter_async_context(ending_what_was_given_up(database, executors, host))
            yield

    app = _make_app(settings, lifespan)
    app.state.database = database
    app.state.principals = principals
    app.state.throttle = throttle
    app.state.feed = feed
    app.state.executors = executors
    app.state.vault = vault
    app.state.group_commit = group_commit
    app.state.queue = view
    app.state.controller = controller
    return app


def _database(settings: Settings, me: Identity) -> Database:
    if settings.database_url is None:
        raise ConfigurationError("DATABASE_URL is not set.")
    size, name = settings.database_pool_size, me.application_name
    return Database(settings.database_url, pool_size=size, name=name)


async def _settle(settings: Settings, database: Database, executors: Registry) -> str:
    """Give this machine's own cluster its name. Returns the id of the host."""
    host = await asyncio.to_thread(host_id, settings.data_dir)
    runs_jobs = executors[BUILT_IN].kind == OWN_KIND
    async with database.transaction() as session:
        name = await settle(session, host, socket.gethostname(), runs_jobs=runs_jobs)
    if runs_jobs and name is not None and name != BUILT_IN:
        executors.rename(BUILT_IN, name)
    executors.host = host
    return host


def _make_app(settings: Settings, lifespan: Lifespan[FastAPI]) -> FastAPI:
    app = FastAPI(
        title="queueapi",
        version=__version__,
        lifespan=lifespan,
        docs_url="/docs",
        openapi_url="/openapi.json",
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # ours is /metrics
    )
    app.state.settings = settings
    app.state.uploads = Uploads(settings)
    uploads = {("POST", "/api/folders"): settings.max_upload_mb * MIB}
    app.add_middleware(Access, settings.max_body_bytes, others=uploads)
    mount_routers(app)
    install_error_handlers(app)
    describe(app)
    return app
