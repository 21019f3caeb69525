"""The client for programs that use asyncio."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any

from queueapi.client import _flows, _requests
from queueapi.client import doctor as _doctor
from queueapi.client import files as _files
from queueapi.client import folders as _folders
from queueapi.client import previews as _previews
from queueapi.client import proofs as _proofs
from queueapi.client._async_clusters import AsyncClusters
from queueapi.client._follow import follow
from queueapi.client.log_parts import LogChunk, LogPart
from queueapi.client.models import (
    Event,
    Group,
    GroupSummary,
    Job,
    JobDetail,
    Member,
    Profile,
    Queue,
    QueuePage,
    Registered,
    SchedulerStatus,
    TokenPair,
    User,
    Workflow,
    WorkflowSummary,
)
from queueapi.client.submitted import SubmittedJob


class AsyncClient(AsyncClusters):
    """Speaks to one server, as one person. Every method may raise QueueApiError.

    `token` is a login's or an API token. `patience`: seconds for which a request that met a lost
    connection, 429 or 503 is repeated, where that is safe (a submit is: it has a key). `renew`
    is called with a token that was refused, and returns another one or None.
    """

    # Accounts

    async def login(self, email: str, password: str) -> TokenPair:
        """Log in; the client goes on with the new token."""
        return self._adopt(await self._do(_requests.login(email, password)))

    async def refresh(self, refresh_token: str) -> TokenPair:
        """Exchange a refresh token, which works once; the client goes on with the new token."""
        return self._adopt(await self._do(_requests.refresh(refresh_token)))

    def _adopt(self, pair: TokenPair) -> TokenPair:
        self.token = pair.token
        return pair

    async def logout(self) -> None:
        await self._do(_requests.logout())

    async def register(self, email: str, password: str, group: str | None = None) -> Registered:
        return await self._do(_requests.register(email, password, group))

    async def me(self) -> Profile:
        return await self._do(_requests.me())

    # Jobs

    async def submit(
        self, script: str, *, idempotency_key: str | None = None, **fields: Any
    ) -> SubmittedJob:
        """Submit a job; `fields` are the API's (cpu_cores, memory_gb, array, ...)."""
        key = idempotency_key or uuid.uuid4().hex
        return await self._do(_requests.submit({"script": script, **fields}, key))

    async def preview(self, script: str, **fields: Any) -> _previews.JobPreview:
        """What would come of such a job: refused or not, its start, cost, and whom it delays."""
        return await self._do(_previews.preview({"script": script, **fields}))

    async def submit_many(
        self, jobs: Sequence[Mapping[str, Any]], *, idempotency_key: str | None = None
    ) -> Sequence[int]:
        """Submit all of them or none; the ids, in order."""
        return await self._do(_requests.submit_many(jobs, idempotency_key or uuid.uuid4().hex))

    async def get(self, job_id: int, *, wait: float = 0.0) -> JobDetail:
        """The job; with `wait`, after its next change or so many seconds (60 at most)."""
        return await self._do(_requests.get(job_id, wait))

    async def wait(self, job_id: int, timeout: float | None = None) -> JobDetail:  # noqa: ASYNC109
        """The job once it has ended. Raises TimeoutError after `timeout` seconds."""
        return await self._run(_flows.wait(job_id, timeout, self.patience))

    def list(self, **filters: Any) -> AsyncGenerator[Job, None]:
        """Jobs, newest first. Filters: status, group, queue, name, tag, created_after,
        created_before."""
        return self._iterate(_flows.pages("/api/jobs", filters, _requests.as_jobs, self.patience))

    def tasks(self, array_id: int, **filters: Any) -> AsyncGenerator[Job, None]:
        """The tasks of an array, by rising index. Filters: status, indices (as in "3-5,9")."""
        path = f"/api/jobs/{array_id}/tasks"
        return self._iterate(_flows.pages(path, filters, _requests.as_jobs, self.patience))

    async def task(self, array_id: int, index: int) -> Job:
        """The task of an array with this index: a job, with an id and logs of its own."""
        return await self._do(_requests.task(array_id, index))

    async def cancel(self, job_id: int, tasks: str | None = None) -> Job:
        """`tasks`: of an array, those of these indices only, as in "3-5,9"."""
        return await self._do(_requests.cancel(job_id, tasks))

    async def hold(self, job_id: int, tasks: str | None = None) -> Job:
        return await self._do(_requests.hold(job_id, tasks))

    async def release(self, job_id: int, tasks: str | None = None) -> Job:
        return await self._do(_requests.release(job_id, tasks))

    async def requeue(self, job_id: int, tasks: str | None = None) -> Job:
        return await self._do(_requests.requeue(job_id, tasks))

    async def suspend(self, job_id: int) -> Job:
        """Stop a running job where it is; it is `suspended` when all its processes stand still."""
        return await self._do(_requests.suspend(job_id))

    async def resume(self, job_id: int) -> Job:
        """Let a suspended job go on."""
        return await self._do(_requests.resume(job_id))

    async def set_priority(self, job_id: int, priority: int, *, version: int | None = None) -> Job:
        """With `version` it is refused (412) where the job has changed since."""
        return await self._do(_requests.set_priority(job_id, priority, version))

    async def events(self, job_id: int) -> Sequence[Event]:
        return await self._do(_requests.events(job_id))

    async def launch_proof(self, job_id: int) -> _proofs.LaunchProof:
        """How often the job ran, and what shows it."""
        return await self._do(_proofs.launch_proof(job_id))

    async def queue(
        self, *, limit: int = 50, cursor: str | None = None, queue: str | None = None
    ) -> QueuePage:
        """The waiting jobs in the scheduler's order; with `queue`, those in one queue."""
        return await self._do(_requests.queue(limit, cursor, queue))

    async def scheduler(self) -> SchedulerStatus:
        """Its policy, its last cycle, and how well it estimates."""
        return await self._do(_requests.scheduler())

    # Folders that jobs bring

    async def upload_folder(
        self, path: str | Path, *, name: str | None = None, group: str | None = None
    ) -> _folders.Folder:
        """Upload a folder, a file, or an archive of one, and name it by `executable` in a job.

        What is named .git or __pycache__ is left out. `group`: whose members may use it, too.
        """
        pack = _folders.packed(Path(path))
        archive = await asyncio.to_thread(pack.__enter__)
        try:
            return await self._do(_folders.upload(archive, _folders.label(path, name), group))
        finally:
            await asyncio.to_thread(pack.__exit__, None, None, None)

    def folders(self) -> AsyncGenerator[_folders.Folder, None]:
        """Yours and those of your groups, newest first."""
        return self._iterate(_flows.pages("/api/folders", {}, _folders.as_folders, self.patience))

    async def folder(self, folder_id: int) -> _folders.FolderDetail:
        """With the list of its files."""
        return await self._do(_folders.get(folder_id))

    async def delete_folder(self, folder_id: int) -> None:
        await self._do(_folders.delete(folder_id))

    # Queues

    def queues(self) -> AsyncGenerator[Queue, None]:
        """Those that you may use, the shortest time limit first."""
        return self._iterate(_flows.pages("/api/queues", {}, _requests.as_queues, self.patience))

    async def get_queue(self, name: str) -> Queue:
        return await self._do(_requests.get_queue(name))

    async def create_queue(self, name: str, max_estimated_hours: float, **fields: Any) -> Queue:
        body = {"name": name, "max_estimated_hours": max_estimated_hours, **fields}
        return await self._do(_requests.create_queue(body))

    async def change_queue(self, name: str, **changes: Any) -> Queue:
        return await self._do(_requests.change_queue(name, changes))

    async def delete_queue(self, name: str) -> None:
        await self._do(_requests.delete_queue(name))

    # Workflows

    async def submit_workflow(
        self,
        jobs: Sequence[Mapping[str, Any]],
        name: str = "",
        *,
        idempotency_key: str | None = None,
    ) -> Workflow:
        """Submit a graph of jobs, all or none. Each has a `label`; `waits_for` names others."""
        body = {"name": name, "jobs": list(jobs)}
        key = idempotency_key or uuid.uuid4().hex
        return await self._do(_requests.submit_workflow(body, key))

    async def get_workflow(self, workflow_id: int) -> Workflow:
        return await self._do(_requests.get_workflow(workflow_id))

    def workflows(self) -> AsyncGenerator[WorkflowSummary, None]:
        """Newest first."""
        return self._iterate(
            _flows.pages("/api/workflows", {}, _requests.as_workflows, self.patience)
        )

    async def cancel_workflow(self, workflow_id: int) -> Workflow:
        """Cancel all of its jobs that have not ended."""
        return await self._do(_requests.cancel_workflow(workflow_id))

    # Logs

    async def logs(
        self,
        job_id: int,
        stream: str = "stdout",
        *,
        attempt: int | None = None,
        offset: int | None = None,
        limit: int | None = None,
        tail: int | None = None,
    ) -> LogPart:
        """Bytes of a log: all, from `offset`, at most `limit`, or the last `tail` lines."""
        return await self._do(
            _requests.logs(job_id, stream, attempt=attempt, offset=offset, limit=limit, tail=tail)
        )

    def follow_logs(
        self,
        job_id: int,
        stream: str = "stdout",
        *,
        offset: int = 0,
        attempt: int | None = None,
    ) -> AsyncGenerator[LogChunk, None]:
        """The log as it is written, until the job has ended; or of one attempt only.

        Goes on where it was after a lost connection, and with the next attempt after a requeue.
        """
        return self._iterate(follow(job_id, stream, offset, attempt, self.patience))

    # Files

    def files(
        self, job_id: int, path: str = "", *, attempt: int | None = None
    ) -> AsyncGenerator[_files.JobFile, None]:
        """What is in a folder of the job: in its own are `work` and `result`."""
        params = {"path": path, "attempt": attempt}
        given = {name: value for name, value in params.items() if value}
        url = f"/api/jobs/{job_id}/files"
        return self._iterate(_flows.pages(url, given, _files.as_files, self.patience))

    def read_file(
        self, job_id: int, path: str, *, attempt: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The bytes of a file, as they come."""
        request = _files.file(job_id, path, attempt)
        return self._iterate(_files.download(request, self.patience))

    def read_result(
        self, job_id: int, *, attempt: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """All that is in the job's result folder, as a tar, as it comes."""
        return self._iterate(_files.download(_files.result(job_id, attempt), self.patience))

    # Groups and people

    def groups(self, view: str | None = None) -> AsyncGenerator[GroupSummary, None]:
        """`view`: mine, joinable or all."""
        params = {"view": view} if view else {}
        return self._iterate(
            _flows.pages("/api/groups", params, _requests.as_groups, self.patience)
        )

    async def get_group(self, group_id: int) -> Group:
        return await self._do(_requests.get_group(group_id))

    async def create_group(self, name: str, **fields: Any) -> Group:
        return await self._do(_requests.create_group({"name": name, **fields}))

    async def change_group(self, group_id: int, **changes: Any) -> Group:
        return await self._do(_requests.change_group(group_id, changes))

    async def set_member(
        self, group_id: int, user_id: int, role: str = "member", **fields: Any
    ) -> Member:
        return await self._do(_requests.set_member(group_id, user_id, role, **fields))

    def users(self) -> AsyncGenerator[User, None]:
        return self._iterate(_flows.pages("/api/users", {}, _requests.as_users, self.patience))

    async def change_user(self, user_id: int, **changes: Any) -> User:
        return await self._do(_requests.change_user(user_id, changes))

    # The doctor, for administrators

    async def checks(self) -> Sequence[_doctor.Check]:
        """What the doctor checks, in the order in which that is best done."""
        return await self._do(_doctor.checks())

    async def run_check(
        self, name: str, *, repair: bool = False, after: int = 0
    ) -> _doctor.CheckResult:
        """A part of a check; go on with `after` set to the answer's `next` until that is None."""
        return await self._do(_doctor.run_check(name, repair=repair, after=after))
