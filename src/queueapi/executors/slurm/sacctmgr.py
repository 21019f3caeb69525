"""`sacctmgr`: what the account may charge, where the cluster holds jobs to that."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from queueapi.executors.slurm import records

_FIELDS: Final = ("Cluster", "AdminLevel", "Account", "QOS")
_NO_LEVEL: Final = ("", "None")


@dataclass(frozen=True, slots=True)
class Rights:
    """In lower-case letters, as Slurm keeps them. None = nobody checks, or nobody knows."""

    accounts: tuple[str, ...] | None = None
    qos: tuple[str, ...] | None = None


def rights_argv(user: str) -> tuple[str, ...]:
    """Ask for the associations of the account, on all clusters that share the accounting."""
    argv = ("sacctmgr", "--noheader", "--parsable2", "--readonly", "show", "user", f"name={user}")
    return records.question(*argv, "withassoc", f"format={','.join(_FIELDS)}")


def parse_rights(text: str, config: Mapping[str, str]) -> Rights:
    """``config``: the cluster's settings, which say its name and what is enforced there.

    Raises :class:`records.BadOutput` when the answer was cut short.
    """
    if text and not text.endswith("\n"):
        raise records.BadOutput("the answer was cut short")
    accounts: set[str] = set()
    qos: set[str] = set()
    for line in text.splitlines():
        fields = line.split("|")
        if len(fields) != len(_FIELDS) or fields[0] != config.get("ClusterName"):
            continue
        _, level, account, allowed = fields
        if level not in _NO_LEVEL:
            return Rights()  # an operator may use any
        accounts.add(account.lower())
        qos.update(name.lower() for name in allowed.split(",") if name)
    enforced = config.get("AccountingStorageEnforce", "").lower().split(",")
    return Rights(
        tuple(sorted(accounts)) if accounts and "associations" in enforced else None,
        tuple(sorted(qos)) if qos and "qos" in enforced else None,
    )


def is_operator(text: str) -> bool:
    """Whether the account of the same answer may see what it hides from others."""
    fields = [line.split("|") for line in text.splitlines()]
    return any(len(each) == len(_FIELDS) and each[1] not in _NO_LEVEL for each in fields)
