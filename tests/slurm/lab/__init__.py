"""A real Slurm cluster on this machine, for as long as somebody needs it.

munge, MariaDB, slurmdbd, slurmctld, a few emulated nodes with made-up GPUs, and an sshd: all of
them in one folder and on the loopback, without systemd. Only root can start it, because slurmd
becomes the user of each job.
"""

from tests.slurm.lab.lab import Lab
from tests.slurm.lab.machine import Unavailable
from tests.slurm.lab.settings import Node, Settings

__all__ = ["Lab", "Node", "Settings", "Unavailable"]
