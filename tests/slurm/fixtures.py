"""Clusters for tests: each is started by the first test that asks for it, and kept for the others.

A test that breaks something mends it. Where a cluster can't be started, the test is skipped with
the reason. With QUEUEAPI_SLURM=newer in the environment all run on the newer Slurm.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.slurm.lab import Lab, Node, Settings, Unavailable

NEWER = os.environ.get("QUEUEAPI_SLURM") == "newer"


@contextmanager
def started(settings: Settings) -> Iterator[Lab]:
    """A lab that ends with the block, or with this process, however that ends."""
    try:
        lab = Lab.start(settings)
    except Unavailable as error:
        pytest.skip(f"no Slurm: {error}")
    guard = lab.guard()
    try:
        yield lab
    finally:
        lab.destroy()
        guard.communicate()


@pytest.fixture(scope="session")
def slurm_lab() -> Iterator[Lab]:
    """Four nodes of the Slurm that this machine's distribution has."""
    with started(Settings(newer=NEWER)) as lab:
        yield lab


@pytest.fixture(scope="session")
def newer_slurm_lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The same of a newer Slurm, see machine.py."""
    if NEWER:
        yield request.getfixturevalue("slurm_lab")
        return
    with started(Settings(newer=True)) as lab:
        yield lab


@pytest.fixture(scope="session")
def memory_slurm_lab() -> Iterator[Lab]:
    """One node that ends jobs which take more memory than they asked for."""
    # The kernel's groups are named after nodes, and other labs may run here.
    nodes = (Node(f"mem{os.getpid()}"),)
    with started(Settings(nodes=nodes, memory_limits=True, newer=NEWER)) as lab:
        yield lab


@pytest.fixture(params=["distribution", "newer"])
def each_slurm_lab(request: pytest.FixtureRequest) -> Lab:
    """Both versions, one after the other."""
    name = "slurm_lab" if request.param == "distribution" else "newer_slurm_lab"
    lab: Lab = request.getfixturevalue(name)
    return lab
