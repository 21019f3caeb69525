"""The texts of the configuration files. Pure."""

from collections.abc import Iterable

from tests.slurm.lab.settings import CLUSTER, USERS, Node, Plan


def slurm_conf(plan: Plan, *, loopback: bool) -> str:
    """``loopback``: the host's name is one of 127.0.0.1, so that daemons can bind to it alone."""
    folder, settings = plan.folder, plan.settings
    cgroup = settings.memory_limits
    bind = "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny" if loopback else ""
    return _lines(f"""
        ClusterName={CLUSTER}
        SlurmctldHost={plan.host}(127.0.0.1)
        SlurmctldPort={plan.ports.slurmctld}
        {bind}
        SlurmUser=slurm
        SlurmdUser=root
        AuthType=auth/munge
        AuthInfo=socket={folder}/run/munge/socket
        CredType=cred/munge
        StateSaveLocation={folder}/state
        SlurmdSpoolDir={folder}/spool/%n
        SlurmctldPidFile={folder}/log/slurm/slurmctld.pid
        SlurmdPidFile={folder}/run/slurmd-%n.own-pid
        SlurmctldLogFile={folder}/log/slurm/slurmctld.log
        SlurmdLogFile={folder}/log/slurmd-%n.log
        ProctrackType=proctrack/{"cgroup" if cgroup else "linuxproc"}
        TaskPlugin=task/{"cgroup" if cgroup else "none"}
        JobAcctGatherType=jobacct_gather/linux
        JobAcctGatherFrequency=1
        # nodes that claim more than the machine has
        SlurmdParameters=config_overrides
        SelectType=select/cons_tres
        SelectTypeParameters=CR_Core_Memory
        SchedulerType=sched/backfill
        SchedulerParameters=bf_interval=2,sched_min_interval=50000
        PriorityType=priority/multifactor
        PriorityWeightAge=1000
        PriorityWeightQOS=10000
        AccountingStorageType=accounting_storage/slurmdbd
        AccountingStoragePass={folder}/run/munge/socket
        AccountingStorageHost=127.0.0.1
        AccountingStoragePort={plan.ports.slurmdbd}
        AccountingStorageEnforce=associations,limits,qos
        AccountingStorageTRES=gres/gpu
        AccountingStoreFlags=job_comment
        MinJobAge={settings.min_job_age}
        KillWait={settings.kill_wait}
        MaxJobCount=50000
        MaxArraySize=10001
        ReturnToService=2
        SlurmctldTimeout=60
        SlurmdTimeout={settings.node_timeout}
        InactiveLimit=0
        PropagateResourceLimits=NONE
        MpiDefault=none
        MailProg=/bin/true
        DefMemPerCPU=256
        GresTypes=gpu
        {_nodes(plan)}
        PartitionName=main Nodes=ALL Default=YES DefaultTime=01:00:00 MaxTime=7-00:00:00
        PartitionName=short Nodes=ALL DefaultTime=00:05:00 MaxTime=00:10:00 MaxNodes=2
        {_gpu_partition(plan)}
        {_joined(settings.extra)}
    """)


def _nodes(plan: Plan) -> str:
    return _joined(
        f"NodeName={node.name} NodeHostname={plan.host} NodeAddr=127.0.0.1 Port={port} "
        f"CPUs={node.cpus} Boards=1 SocketsPerBoard=1 CoresPerSocket={node.cpus} "
        f"ThreadsPerCore=1 RealMemory={node.memory_mb}{_gres(node)}{_features(node)}"
        for node, port in zip(plan.settings.nodes, plan.ports.nodes, strict=True)
    )


def _gres(node: Node) -> str:
    return f" Gres=gpu:{node.gpu_type}:{node.gpus}" if node.gpus else ""


def _features(node: Node) -> str:
    return f" Feature={','.join(node.features)}" if node.features else ""


def _gpu_partition(plan: Plan) -> str:
    nodes = ",".join(node.name for node in plan.settings.nodes if node.gpus)
    return f"PartitionName=gpu Nodes={nodes} DefaultTime=01:00:00 MaxTime=1-00:00:00" * bool(nodes)


def gres_conf(plan: Plan) -> str:
    """Copies of /dev/null stand in for the devices."""
    return _joined(
        f"NodeName={node.name} Name=gpu Type={node.gpu_type} File={plan.folder}/dev/gpu{index}"
        for node in plan.settings.nodes
        for index in range(node.gpus)
    )


def cgroup_conf(plan: Plan) -> str:
    kind = "cgroup/v1" if plan.settings.memory_limits else "autodetect"
    return _lines(f"""
        CgroupPlugin={kind}
        CgroupMountpoint=/sys/fs/cgroup
        ConstrainRAMSpace=yes
        ConstrainSwapSpace=no
    """)


def slurmdbd_conf(plan: Plan, *, loopback: bool) -> str:
    folder = plan.folder
    return _lines(f"""
        AuthType=auth/munge
        AuthInfo=socket={folder}/run/munge/socket
        {"CommunicationParameters=NoInAddrAny" if loopback else ""}
        DbdHost={plan.host}
        DbdAddr=127.0.0.1
        DbdPort={plan.ports.slurmdbd}
        SlurmUser=slurm
        LogFile={folder}/log/slurm/slurmdbd.log
        PidFile={folder}/log/slurm/slurmdbd.pid
        StorageType=accounting_storage/mysql
        StorageHost=localhost
        StorageUser=slurm
        StorageLoc=slurm_acct
        CommitDelay=1
    """)


def sshd_config(plan: Plan) -> str:
    folder = plan.folder
    return _lines(f"""
        ListenAddress 127.0.0.1
        Port {plan.ports.sshd}
        HostKey {folder}/ssh/host_key
        PidFile none
        AuthorizedKeysFile {folder}/ssh/authorized_keys {folder}/ssh/%u.keys
        # the folder may lie in one that everybody may write to, as /tmp
        StrictModes no
        AllowUsers {" ".join(USERS)}
        AuthenticationMethods publickey
        PasswordAuthentication no
        KbdInteractiveAuthentication no
        PermitRootLogin no
        UsePAM no
        UseDNS no
        PrintMotd no
        MaxStartups 100:30:200
        SetEnv SLURM_CONF={folder}/etc/slurm.conf
        Subsystem sftp internal-sftp
    """)


def _joined(lines: Iterable[str]) -> str:
    return "\n".join(lines)


def _lines(text: str) -> str:
    stripped = (line.strip() for line in text.splitlines())
    return "".join(f"{line}\n" for line in stripped if line)
