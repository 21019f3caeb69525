"""Apptainer, where the distribution has none: Debian's own from sid, with the C library it needs.

Nothing of the system changes: the packages are unpacked into a folder, and the two programs are
pointed at the library beside them.
"""

import os
import shutil
import subprocess
from pathlib import Path

from tests.slurm.lab.machine import CACHE, Unavailable, call, check_root, mirror

_FOLDER = CACHE / "apptainer"
_PACKAGES = ("apptainer", "libc6", "libseccomp2", "libsqlite3-0")
_NEEDED = ("patchelf", "mksquashfs", "unsquashfs", "dpkg-deb", "apt-get")


def find_apptainer() -> Path:
    """The program. Raises :class:`Unavailable`."""
    for name in ("apptainer", "singularity"):
        if installed := shutil.which(name):
            return Path(installed)
    program = _FOLDER / "usr/bin/apptainer"
    if not (_FOLDER / ".complete").exists():
        raise Unavailable(f"no apptainer in {_FOLDER}; `python -m tests.slurm.lab newer` gets it")
    return program


def get_apptainer() -> Path:
    """Fetch it, once, unless there is one. Raises :class:`Unavailable`."""
    try:
        return find_apptainer()
    except Unavailable:
        check_root()
    missing = [program for program in _NEEDED if not shutil.which(program)]
    if missing or os.uname().machine != "x86_64":
        raise Unavailable(f"not installed: {', '.join(missing) or 'for this kind of processor'}")
    draft = CACHE / f".new-apptainer-{os.getpid()}"
    draft.mkdir(parents=True)
    try:
        _download(draft)
        _unpack(draft)
        draft.chmod(0o755)
        draft.rename(_FOLDER)
        _patch(_FOLDER)  # with paths of where they lie for good
        (_FOLDER / ".complete").touch()
    except (OSError, subprocess.SubprocessError) as error:
        for folder in (draft, _FOLDER):
            shutil.rmtree(folder, ignore_errors=True)
        words = getattr(error, "stderr", None) or str(error)
        raise Unavailable(f"can't get apptainer: {words.strip()[-500:]}") from error
    return find_apptainer()


def _download(folder: Path) -> None:
    for name in ("lists/partial", "cache/archives/partial", "debs"):
        (folder / name).mkdir(parents=True)
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    sources = folder / "sources.list"
    sources.write_text(f"deb [signed-by={keyring}] {mirror()} sid main\n")
    options = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",
        "Acquire::Check-Valid-Until": "false",  # a mirror's sid may have stood still
    }
    words = [f"-o{name}={value}" for name, value in options.items()]
    call("apt-get", "-qq", *words, "update")
    call("env", f"--chdir={folder}/debs", "apt-get", "-qq", *words, "download",
         *(f"{name}/sid" for name in _PACKAGES))  # fmt: skip


def _unpack(folder: Path) -> None:
    for package in (folder / "debs").glob("*.deb"):
        call("dpkg-deb", "-x", str(package), str(folder))
    for name in ("lists", "cache", "debs"):
        shutil.rmtree(folder / name)
    # Where one that was moved looks for its settings, and makes its mount points.
    (folder / "usr/etc").symlink_to("../etc")
    (folder / "usr/lib/etc").symlink_to("../../etc")
    (folder / "etc/apptainer/capability.json").write_text("{}")
    for name in ("usr/var", "usr/lib/var"):
        (folder / name / "lib/apptainer/mnt/session").mkdir(parents=True)


def _patch(folder: Path) -> None:
    library = folder / "usr/lib/x86_64-linux-gnu"
    for program in (folder / "usr/bin/apptainer", library / "apptainer/bin/starter"):
        call("patchelf", "--set-interpreter", f"{library}/ld-linux-x86-64.so.2",
             "--force-rpath", "--set-rpath", str(library), str(program))  # fmt: skip
