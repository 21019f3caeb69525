"""The application on a database that these tests share."""

from tests.staging import database_url, shared_url, stage

__all__ = ["database_url", "shared_url", "stage"]
