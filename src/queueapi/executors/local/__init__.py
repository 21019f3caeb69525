"""Runs jobs on the machine that the server itself runs on."""

from queueapi.executors.local.config import LocalConfig
from queueapi.executors.local.executor import LocalExecutor

__all__ = ["LocalConfig", "LocalExecutor"]
