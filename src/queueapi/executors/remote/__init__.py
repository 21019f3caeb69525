"""Another machine's commands and files, for the executors whose cluster has no API."""
