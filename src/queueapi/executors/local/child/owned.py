"""Opening files in folders that a job can write to, when the reader may be root.

A job may leave a symbolic link, a hard link to someone else's file, a FIFO or a
terabyte where a log or a record is expected. All of these read as "absent".
"""

import os
import stat


def open_owned(
    folder_fd: int,
    name: str | bytes,
    owner: int,
    flags: int = os.O_RDONLY,
    *,
    linked: bool = False,
) -> int | None:
    """Open the regular file ``name`` that ``owner`` (a uid) owns and nobody else links to.

    ``linked``: it may have other names as well. Returns a descriptor, or None for anything else.
    """
    guard = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    try:
        file_fd = os.open(name, flags | guard, dir_fd=folder_fd)
    except OSError:
        return None
    status = os.fstat(file_fd)
    alone = linked or status.st_nlink == 1
    if stat.S_ISREG(status.st_mode) and alone and status.st_uid == owner:
        return file_fd
    os.close(file_fd)
    return None


def read_owned(folder_fd: int, name: str, owner: int, limit: int) -> bytes | None:
    """Read a record of at most ``limit`` bytes; a longer one is no record, so None."""
    file_fd = open_owned(folder_fd, name, owner)
    if file_fd is None:
        return None
    try:
        content = os.read(file_fd, min(os.fstat(file_fd).st_size, limit) + 1)
    except OSError:
        return None
    finally:
        os.close(file_fd)
    return content if len(content) <= limit else None


def write_new(folder_fd: int, name: str, content: bytes, mode: int = 0o600) -> bool:
    """Create ``name`` with ``content``, or not at all; False when it exists already.

    Raises OSError when the disk is full.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        file_fd = os.open(name, flags, mode, dir_fd=folder_fd)
    except FileExistsError:
        return False
    try:
        os.fchmod(file_fd, mode)  # whatever the umask is
        view = memoryview(content)
        while view:
            view = view[os.write(file_fd, view) :]
    except OSError:
        os.unlink(name, dir_fd=folder_fd)
        raise
    finally:
        os.close(file_fd)
    return True


def exists(folder_fd: int, name: str) -> bool:
    """Tell whether anything has this name, without following links."""
    try:
        os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except OSError:
        return False
    return True


def open_folder(name: str | bytes, dir_fd: int | None = None) -> int | None:
    """Open a folder that is no symbolic link, or None when there is none."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, dir_fd=dir_fd)
    except (FileNotFoundError, NotADirectoryError):
        return None


def in_memory(text: str) -> int:
    """A file that has no name and is gone with its last descriptor, ready to be read."""
    file_fd = os.memfd_create("queueapi", os.MFD_CLOEXEC)
    view = memoryview(text.encode("utf-8", "surrogateescape"))
    while view:
        view = view[os.write(file_fd, view) :]
    os.lseek(file_fd, 0, os.SEEK_SET)
    return file_fd
