"""Values that nobody changes, made by the thousand."""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["value"]

if TYPE_CHECKING:
    from dataclasses import dataclass as value
else:
    from dataclasses import dataclass

    def value(*, frozen, slots):
        """As `dataclass`, but frozen for the type checker alone.

        A guard on each field at run time would make such a value several times as slow to make,
        and nothing that changes one passes the type checker.
        """
        return dataclass(unsafe_hash=frozen, slots=slots)
