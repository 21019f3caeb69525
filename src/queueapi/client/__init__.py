"""The Python SDK: `Client`, and `AsyncClient` for asyncio."""

from queueapi.client._http import base_url
from queueapi.client.asynchronous import AsyncClient
from queueapi.client.errors import NotAQueueApi, QueueApiError, ServerUnreachable
from queueapi.client.log_parts import LogChunk, LogPart
from queueapi.client.models import Job, JobDetail, TokenPair, Workflow
from queueapi.client.sync import Client

__all__ = [
    "AsyncClient",
    "Client",
    "Job",
    "JobDetail",
    "LogChunk",
    "LogPart",
    "NotAQueueApi",
    "QueueApiError",
    "ServerUnreachable",
    "TokenPair",
    "Workflow",
    "base_url",
]
