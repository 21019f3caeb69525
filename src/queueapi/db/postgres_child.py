"""Becomes another program: as an unprivileged account, and never outliving its parent.

Run as a script, `python -I -S postgres_child.py PARENT_PID UID GID PROGRAM ARGUMENT…`. It stands
between fork and exec in place of subprocess's `preexec_fn`, which is not safe in a process with
threads (and warned about from Python 3.12 on). It leaves no process of its own behind.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    parent, uid, gid = (int(number) for number in sys.argv[1:4])
    program = sys.argv[4:]
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # After the change of account, which clears it. SIGINT is PostgreSQL's fast shutdown.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0) != 0:
        sys.exit(f"prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("The parent ended before its child began.")
    os.execv(program[0], program)  # noqa: S606  (argv, no shell)


if __name__ == "__main__":
    main()
