"""The lab itself: made, started, broken on purpose, mended, and taken away."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from tests.slurm.lab import files, processes
from tests.slurm.lab.machine import Machine, newer_machine, this_machine
from tests.slurm.lab.settings import ACCOUNT, CLUSTER, QOS, USERS, Plan, Ports, Settings

_CHECKOUT = Path(__file__).parents[3]
# Nothing in a lab's database is worth a wait for the disk.
_FAST = (
    *("--innodb-log-file-size=16M", "--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0"),
    *("--innodb-flush-method=nosync", "--innodb-file-per-table=0"),
)
_OPEN_STATES = frozenset({"idle", "mixed", "allocated", "completing"})


class Lab:
    """A cluster that runs. Methods wait until what they order is done."""

    account, user = ACCOUNT, USERS[0]

    def __init__(self, plan: Plan, machine: Machine) -> None:
        self.plan, self.machine = plan, machine
        self.folder, self.version = plan.folder, plan.version
        self.node_names = tuple(node.name for node in plan.settings.nodes)
        self.jobs_root = self.folder / "jobs"  # the user's; the same path on the cluster
        self.ssh_host, self.ssh_port = "127.0.0.1", plan.ports.sshd
        self.ssh_key = self.folder / "ssh/id_ed25519"  # opens the accounts of all users; see let_in
        self.slurm_conf = self.folder / "etc/slurm.conf"

    # ---- its life ----

    @classmethod
    def start(cls, settings: Settings | None = None, folder: Path | None = None) -> "Lab":
        """Make and start one. Raises :class:`~tests.slurm.lab.machine.Unavailable`."""
        settings = settings or Settings()
        folder = folder or Path(tempfile.mkdtemp(prefix="slurm-lab-"))
        try:
            machine = (newer_machine if settings.newer else this_machine)(folder)
        except BaseException:
            with suppress(OSError):
                folder.rmdir()
            raise
        try:
            _make_folders(folder)
            machine.open()
            machine.make_accounts()
            lab = cls(_plan(folder, machine, settings), machine)
            lab.plan.save()
            lab._begin()
        except BaseException as error:
            _add_logs(error, folder)
            cls(_plan(folder, machine, settings), machine).destroy()
            raise
        return lab

    @classmethod
    def open(cls, folder: Path) -> "Lab":
        """One that another process started. Raises FileNotFoundError."""
        plan = Plan.load(folder)
        return cls(plan, Machine(plan.root, folder))

    def destroy(self) -> None:
        """Kill all of it, jobs too, and delete its folder."""
        for name in self._running():
            if name != "holder":
                processes.send(name, self.folder, signal.SIGKILL)
        for _ in range(2):  # what was being forked
            processes.kill_all_with(f"SLURM_CONF={self.slurm_conf}".encode())
        self.machine.close()
        _remove_cgroups(self.node_names)
        shutil.rmtree(self.folder, ignore_errors=True)

    def guard(self) -> "subprocess.Popen[bytes]":
        """A process that destroys the lab when this one is gone, however it went."""
        return subprocess.Popen(
            [sys.executable, "-m", "tests.slurm.lab", "guard", str(self.folder)],
            cwd=_CHECKOUT, stdin=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def _running(self) -> list[str]:
        return [path.stem for path in (self.folder / "run").glob("*.pid")]

    def _begin(self) -> None:
        self._write_files()
        self.start_daemon("munged")
        self._make_database()
        self.start_daemon("slurmdbd")
        self._make_associations()
        self.start_daemon("slurmctld")
        for node in self.node_names:
            self._launch(f"slurmd-{node}")
        self.start_daemon("sshd")
        self.wait_for_nodes()

    def _write_files(self) -> None:
        run, folder = self.machine.run, self.folder
        loopback = self.machine.is_loopback
        texts = {
            "etc/slurm.conf": files.slurm_conf(self.plan, loopback=loopback),
            "etc/slurmdbd.conf": files.slurmdbd_conf(self.plan, loopback=loopback),
            "etc/gres.conf": files.gres_conf(self.plan),
            "etc/cgroup.conf": files.cgroup_conf(self.plan),
            "etc/sshd_config": files.sshd_config(self.plan),
        }
        for name, text in texts.items():
            (folder / name).write_text(text)
        (folder / "etc/slurmdbd.conf").chmod(0o600)
        (folder / "run/munge/key").write_bytes(os.urandom(128))
        (folder / "run/munge/key").chmod(0o400)
        for index in range(max(node.gpus for node in self.plan.settings.nodes)):
            # slurmd wants character devices: more of /dev/null
            os.mknod(folder / f"dev/gpu{index}", 0o20666, os.makedev(1, 3))
        for name in ("host_key", "id_ed25519"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{folder}/ssh/{name}")
        shutil.copy(f"{self.ssh_key}.pub", folder / "ssh/authorized_keys")
        run("mkdir", "-p", "/run/sshd")
        run("chown", "-R", "munge:", f"{folder}/run/munge")
        run("chown", "-R", "slurm:", *(f"{folder}/{name}" for name in (
            "etc/slurmdbd.conf", "state", "mysql", "run/mysql", "log/slurm")))  # fmt: skip
        run("chown", f"{self.user}:", str(self.jobs_root))

    def _make_database(self) -> None:
        folder = self.folder
        self.machine.run(
            "mariadb-install-db", "--no-defaults", "--user=slurm", f"--datadir={folder}/mysql",
            "--skip-test-db", "--skip-name-resolve", "--auth-root-authentication-method=socket",
            "--auth-root-socket-user=root", *_FAST
        )  # fmt: skip
        self.start_daemon("mariadbd")
        self.machine.run(*self._mariadb(), stdin="""
            CREATE DATABASE slurm_acct;
            CREATE USER slurm@localhost IDENTIFIED VIA unix_socket;
            GRANT ALL ON slurm_acct.* TO slurm@localhost;
        """)  # fmt: skip

    def _mariadb(self) -> tuple[str, ...]:
        socket_path = f"{self.folder}/run/mysql/socket"
        return ("mariadb", "--no-defaults", f"--socket={socket_path}", "--user=root")

    def _make_associations(self) -> None:
        users = ",".join(USERS)
        orders = [
            f"add cluster {CLUSTER}",
            f"add account {ACCOUNT} Description=lab Organization=lab",
            *(f"add qos {name} Priority=100" for name in QOS if name != "normal"),
            f"add user {users} Account={ACCOUNT} QosLevel={','.join(QOS)} DefaultQOS=normal",
        ]
        for order in orders:
            self.machine.run("sacctmgr", "--immediate", "--quiet", *order.split())

    # ---- its parts ----

    @property
    def daemons(self) -> tuple[str, ...]:
        """In the order in which they start."""
        nodes = (f"slurmd-{node}" for node in self.node_names)
        return ("munged", "mariadbd", "slurmdbd", "slurmctld", *nodes, "sshd")

    def alive(self, daemon: str) -> bool:
        return processes.pid_of(daemon, self.folder) is not None

    def start_daemon(self, daemon: str) -> None:
        """Start one that is not running, and wait until it serves."""
        if not self.alive(daemon):
            self._launch(daemon)

        def ready() -> bool:
            assert self.alive(daemon), f"{daemon} died"
            return self._serves(daemon)

        processes.until(ready, f"{daemon} to serve")

    def stop_daemon(self, daemon: str) -> None:
        """Stop one as an operator does."""
        processes.stop(daemon, self.folder)

    def kill_daemon(self, daemon: str) -> None:
        """Kill one, as a crash does."""
        processes.kill(daemon, self.folder)

    def kill_node(self, node: str) -> None:
        """Kill its daemon and all that runs on it, as a power cut does."""
        self.kill_daemon(f"slurmd-{node}")
        marks = (f"SLURM_CONF={self.slurm_conf}", f"SLURMD_NODENAME={node}")
        for _ in range(2):  # what was being forked
            processes.kill_all_with(*(mark.encode() for mark in marks), parent="slurmstepd")

    def freeze_daemon(self, daemon: str) -> None:
        """It keeps its connections and answers nothing, until it is thawed."""
        processes.send(daemon, self.folder, signal.SIGSTOP)

    def thaw_daemon(self, daemon: str) -> None:
        processes.send(daemon, self.folder, signal.SIGCONT)

    def _launch(self, daemon: str) -> None:
        argv, user = self._command(daemon)
        environment = self.machine.environment
        if daemon == "slurmdbd":
            environment["MYSQL_UNIX_PORT"] = f"{self.folder}/run/mysql/socket"
        argv = self.machine.argv(argv, user)
        processes.start(daemon, argv, self.folder, environment)

    def _command(self, daemon: str) -> tuple[list[str], str | None]:
        folder, run = self.folder, f"{self.folder}/run"
        if daemon == "munged":
            files_of_munge = [f"--key-file={run}/munge/key", f"--socket={run}/munge/socket",
                              f"--pid-file={run}/munge/pid", f"--seed-file={run}/munge/seed",
                              f"--log-file={run}/munge/log"]  # fmt: skip
            return ["munged", "--foreground", "--force", *files_of_munge], "munge"
        if daemon == "mariadbd":
            return ["mariadbd", "--no-defaults", f"--datadir={folder}/mysql",
                    f"--socket={run}/mysql/socket", f"--pid-file={run}/mysql/pid",
                    "--skip-networking", "--skip-log-bin", "--skip-name-resolve",
                    "--performance-schema=OFF", "--innodb-buffer-pool-size=32M",
                    *_FAST, "--innodb-lock-wait-timeout=900",
                    "--loose-innodb-snapshot-isolation=OFF",
                    "--max-allowed-packet=16M"], "slurm"  # fmt: skip
        if daemon == "sshd":
            return ["/usr/sbin/sshd", "-D", "-e", "-f", f"{folder}/etc/sshd_config"], None
        if daemon.startswith("slurmd-"):
            return ["slurmd", "-D", "-N", daemon.removeprefix("slurmd-")], None
        return [daemon, "-D"], "slurm"

    def _serves(self, daemon: str) -> bool:
        if daemon == "munged":
            return (self.folder / "run/munge/socket").exists()
        if daemon == "mariadbd":
            return self._succeeds(*self._mariadb(), "--execute=select 1")
        if daemon == "slurmdbd":
            return self._succeeds("sacctmgr", "--noheader", "show", "cluster")
        if daemon == "slurmctld":
            return "is UP" in self.machine.run("scontrol", "ping", check=False).stdout
        if daemon == "sshd":
            return _answers(self.plan.ports.sshd)
        return self.node_state(daemon.removeprefix("slurmd-")) in _OPEN_STATES

    def _succeeds(self, *command: str) -> bool:
        return self.machine.run(*command, check=False).returncode == 0

    # ---- its nodes and jobs ----

    def node_state(self, node: str) -> str:
        """The long state, such as `idle`; with an asterisk while the node does not answer."""
        done = self.machine.run("sinfo", "-h", "-N", "-n", node, "-o", "%T", check=False)
        return done.stdout.strip().split("\n")[0].rstrip("~#!%$@^-")

    def wait_for_nodes(self, names: Iterable[str] = ()) -> None:
        """Until they take jobs; one that is down or drained is resumed."""
        for node in names or self.node_names:
            processes.until(partial(self._open_again, node), f"{node} to take jobs")

    def _open_again(self, node: str) -> bool:
        state = self.node_state(node)
        if state.startswith(("down", "drain", "fail")):
            self.run("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        return state in _OPEN_STATES

    def run(
        self, *command: str, user: str | None = None, check: bool = True, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """A command in the lab, as root unless ``user`` is given."""
        return self.machine.run(*command, user=user, check=check, stdin=stdin)

    def as_user(self, *command: str, check: bool = True) -> str:
        """The output of a command, run as the lab's first user in his folder for jobs."""
        entered = ("env", f"--chdir={self.jobs_root}", *command)
        return self.run(*entered, user=self.user, check=check).stdout

    def cancel_all(self) -> None:
        """End all jobs, and wait until none is left."""
        for state in ("PENDING", "RUNNING", "SUSPENDED"):
            self.run("scancel", "--quiet", f"--state={state}", check=False)
        processes.until(
            lambda: not self.run("squeue", "--noheader", "--format=%A").stdout, "jobs to end"
        )

    # ---- its settings ----

    def let_in(self, user: str, *public_keys: str) -> None:
        """These keys open the account from now on, beside the one that opens all."""
        path = self.folder / f"ssh/{user}.keys"
        path.write_text("".join(f"{key}\n" for key in public_keys))
        path.chmod(0o644)

    @property
    def host_key(self) -> str:
        """The public key of its sshd: `ssh-ed25519 AAAA…`"""
        return " ".join((self.folder / "ssh/host_key.pub").read_text().split()[:2])

    @property
    def known_hosts(self) -> str:
        """A line of OpenSSH's known_hosts."""
        return f"[{self.ssh_host}]:{self.ssh_port} {self.host_key}\n"

    @contextmanager
    def changed_host_key(self) -> Iterator[None]:
        """Meanwhile its sshd has another key, as an impostor's would."""
        kept = self.folder / "ssh/host_key", self.folder / "ssh/host_key.pub"
        contents = [path.read_bytes() for path in kept]
        try:
            for path in kept:
                path.unlink()
            self.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(kept[0]))
            self._restart_sshd()
            yield
        finally:
            for path, content in zip(kept, contents, strict=True):
                path.write_bytes(content)
            self._restart_sshd()

    def _restart_sshd(self) -> None:
        self.stop_daemon("sshd")
        self.start_daemon("sshd")

    @contextmanager
    def configured(self, *lines: str) -> Iterator[None]:
        """Meanwhile slurm.conf has these lines, too; the last one of a name holds."""
        text = self.slurm_conf.read_text()
        try:
            names = tuple(f"{line.split('=')[0]}=" for line in lines)
            kept = [line for line in text.splitlines() if not line.startswith(names)]
            self.slurm_conf.write_text("\n".join((*kept, *lines, "")))
            self.run("scontrol", "reconfigure")
            yield
        finally:
            self.slurm_conf.write_text(text)
            self.run("scontrol", "reconfigure")


def _make_folders(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    for name in ("etc", "dev", "log/slurm", "run/munge", "run/mysql", "ssh", "spool", "jobs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in ("state", "mysql"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)


def _plan(folder: Path, machine: Machine, settings: Settings) -> Plan:
    ports = _free_ports(3 + len(settings.nodes))
    version = machine.run("slurmctld", "-V").stdout.split()[-1]
    return Plan(
        folder=folder,
        host=machine.host,
        version=version,
        ports=Ports(ports[0], ports[1], ports[2], tuple(ports[3:])),
        root=machine.root,
        settings=settings,
    )


def _free_ports(count: int) -> list[int]:
    """Below those that the kernel gives to outgoing connections."""
    found: list[int] = []
    start = 10_000 + (os.getpid() * 53) % 20_000
    for port in range(start, start + 2_000):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind(("", port))
                found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no free ports")


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 2) as connection:
        connection.settimeout(2)
        return connection.recv(4) == b"SSH-"
    return False


def _remove_cgroups(nodes: Iterable[str]) -> None:
    for node in nodes:
        for top in Path("/sys/fs/cgroup").glob(f"*/slurm_{node}"):
            for folder in sorted(top.rglob("*/"), reverse=True):
                with suppress(OSError):
                    folder.rmdir()
            with suppress(OSError):
                top.rmdir()


def _add_logs(error: BaseException, folder: Path) -> None:
    """What the daemons said last, so that a failure to start can be understood."""
    for path in (*folder.glob("log/*.out"), *folder.glob("log/**/*.log")):
        with suppress(OSError):
            error.add_note(f"{path.name}: " + path.read_text(errors="replace")[-1500:])
