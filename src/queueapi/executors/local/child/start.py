"""Starting the run wrapper of one job, with all that confines it in place."""

import os
from contextlib import ExitStack
from typing import Final

from queueapi.executors.local.child.cgroups import JobCgroup
from queueapi.executors.local.child.enter import Entry, offer_to_oom_killer, spawn
from queueapi.executors.local.child.locks import WRAPPER_FD
from queueapi.executors.local.child.owned import in_memory
from queueapi.executors.local.child.records import OPTIONS_FD, RUN, Plan

_SHELL: Final = "/bin/sh"
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def start_wrapper(plan: Plan, lock_fd: int, cgroup: JobCgroup) -> int:
    """Start the wrapper, which waits until it is confined; 0 when that is impossible.

    So most is done from here: what runs between fork and exec copies our pages.
    """
    pid = 0
    with ExitStack() as closing:
        gate, go = os.pipe()
        files = {0: gate, WRAPPER_FD: lock_fd}
        if plan.options:
            files[OPTIONS_FD] = in_memory("".join(f"{word}\0" for word in plan.options))
            closing.callback(os.close, files[OPTIONS_FD])
        closing.callback(os.close, gate)
        closing.callback(os.close, go)
        try:
            pid = spawn(_entry(plan, cgroup), files)
            if not cgroup.occupied:
                cgroup.join(pid)
            offer_to_oom_killer(pid)
            os.write(go, b"\n")
        except OSError:
            pass  # a wrapper that did start sees its input end, and leaves
    return pid


def _entry(plan: Plan, cgroup: JobCgroup) -> Entry:
    return Entry(
        argv=[_SHELL, plan.wrapper, "--wait", f"{plan.path}/{RUN}", *plan.command],
        environment={"PATH": _PATH, "LC_ALL": "C", "QUEUEAPI_ATTEMPT_KEY": plan.key},
        uid=plan.uid,
        gid=plan.gid,
        unseen=plan.unseen,
        max_file_bytes=plan.max_file_bytes,
        # This limit counts all tasks of a uid, so it is but a fuse: the job's own
        # number is held by the cgroup, or by counting.
        max_tasks=0 if cgroup.limits_processes else 2 * plan.max_processes,
    )
