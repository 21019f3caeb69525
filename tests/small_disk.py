"""A file system that is full when a test wants it to be. Needs root, as all mounts do."""

import os
import subprocess
from pathlib import Path

_ROOM_MB = 4096
_ROOM_FILES = 2_000_000


class SmallDisk:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mounted = False

    def mount(self) -> bool:
        """False where we may not."""
        self._folder.mkdir(parents=True, exist_ok=True)
        options = f"size={_ROOM_MB}m,nr_inodes={_ROOM_FILES},mode=711"
        command = ["mount", "-t", "tmpfs", "-o", options, "queueapi-test", str(self._folder)]
        self._mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
        return self._mounted

    def fill(self, *, files: bool, left: int = 0) -> bool:
        """No room for another byte; or, with `files`, for more than `left` other files."""
        for _ in range(50):  # what is used may grow while we look
            state = os.statvfs(self._folder)
            used = (state.f_blocks - state.f_bfree) * state.f_frsize // 1024
            inodes = state.f_files - state.f_ffree + left
            if self._remount(f"nr_inodes={inodes}" if files else f"size={max(used, 4)}k"):
                return True
        return False

    def free(self) -> None:
        assert self._remount(f"size={_ROOM_MB}m,nr_inodes={_ROOM_FILES}")

    def _remount(self, limit: str) -> bool:
        command = ["mount", "-o", f"remount,{limit}", str(self._folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def unmount(self) -> None:
        if self._mounted:
            subprocess.run(["umount", "-l", str(self._folder)], check=True)
