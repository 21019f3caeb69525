"""What counts as a database that is away."""

import asyncpg

from queueapi.db.session import is_away


def test_a_connection_that_is_lost_as_it_begins_to_speak_is_away() -> None:
    """Seen in a storm: the words are of asyncpg's own state, the cause is a cut connection."""
    words = "cannot switch to state 15; another operation (2) is in progress"
    assert is_away(asyncpg.InternalClientError(words))
    assert not is_away(asyncpg.OutdatedSchemaCacheError(words))
