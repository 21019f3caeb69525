"""The command line: what commands there are, and where each is."""

from typing import Annotated

import typer

from queueapi import __version__
from queueapi.cli.lazy import Lazy, lazy_group

COMMANDS = {
    # The server
    "serve": Lazy(
        "queueapi.cli.serve:serve",
        "Run the server, with a PostgreSQL of its own if DATABASE_URL is not set.",
    ),
    "demo": Lazy(
        "queueapi.cli.demo:demo",
        "Two groups compete for this machine; then serve until Ctrl-C.",
    ),
    "migrate": Lazy(
        "queueapi.cli.migrate:migrate",
        "Bring the database's schema up to date; `serve` does so too.",
    ),
    "simulate": Lazy(
        "queueapi.cli.simulate:simulate",
        "Replay a trace of jobs through the scheduler, and measure what comes of it.",
    ),
    "openapi": Lazy("queueapi.cli.openapi:openapi", "Write the API's OpenAPI document."),
    # You
    "login": Lazy("queueapi.cli.account:login", "Log in; later commands use this login."),
    "logout": Lazy(
        "queueapi.cli.account:logout", "Log out: the stored tokens are revoked and deleted."
    ),
    "register": Lazy("queueapi.cli.account:register", "Make an account and log in."),
    "whoami": Lazy(
        "queueapi.cli.account:whoami",
        "Show your account, its groups, and what your token may do.",
    ),
    # Jobs
    "run": Lazy(
        "queueapi.cli.run:run",
        "Submit a job, show its output as it comes, and end with its exit code.",
    ),
    "submit": Lazy("queueapi.cli.submit:submit", "Submit a job; prints its id."),
    "preview": Lazy(
        "queueapi.cli.preview:preview",
        "Show what would come of a job: its start, its cost, whom it delays.",
    ),
    "list": Lazy("queueapi.cli.jobs:list_jobs", "List jobs, newest first."),
    "status": Lazy(
        "queueapi.cli.jobs:status", "Show a job: how it stands, why, and when it will start."
    ),
    "tasks": Lazy("queueapi.cli.jobs:tasks", "List the tasks of an array, by index."),
    "why": Lazy("queueapi.cli.jobs:why", "Show why a job waits, and when it will start."),
    "logs": Lazy("queueapi.cli.logs:logs", "Print what a job wrote."),
    "files": Lazy("queueapi.cli.files:files", "List what is in a job's folder."),
    "fetch": Lazy(
        "queueapi.cli.files:fetch", "Fetch a file of a job's folder, or all of its results."
    ),
    "wait": Lazy(
        "queueapi.cli.wait:wait",
        "Wait until jobs have ended; with one job, end with its exit code.",
    ),
    "cancel": Lazy("queueapi.cli.jobs:cancel", "Cancel jobs, with all their processes."),
    "hold": Lazy("queueapi.cli.jobs:hold", "Keep queued jobs from starting."),
    "release": Lazy("queueapi.cli.jobs:release", "Let held jobs start."),
    "requeue": Lazy("queueapi.cli.jobs:requeue", "Run jobs anew, from the start."),
    "suspend": Lazy("queueapi.cli.jobs:suspend", "Stop running jobs where they are."),
    "resume": Lazy("queueapi.cli.jobs:resume", "Let suspended jobs go on."),
    "priority": Lazy("queueapi.cli.jobs:priority", "Change the priority of a waiting job."),
    "events": Lazy("queueapi.cli.jobs:events", "Show what happened to a job, in order."),
    "queues": Lazy(
        "queueapi.cli.queues:queues", "List the queues that you may use, with their limits."
    ),
    "queue": Lazy("queueapi.cli.jobs:queue", "Show the waiting jobs in the scheduler's order."),
    "scheduler": Lazy(
        "queueapi.cli.jobs:scheduler", "Show the scheduler's policy and how well it estimates."
    ),
    "nodes": Lazy("queueapi.cli.nodes:nodes", "Show the nodes, and what is free on them."),
    "clusters": Lazy("queueapi.cli.clusters:clusters", "List the clusters that you may use."),
    "reservations": Lazy(
        "queueapi.cli.reservations:reservations",
        "Show which nodes are reserved, when and for whom.",
    ),
}
ADMIN = {
    "create": Lazy(
        "queueapi.cli.admin_create:create",
        "Make an administrator's account, in the server's own database.",
    ),
    "doctor": Lazy(
        "queueapi.cli.admin_doctor:doctor",
        "Check what must always hold of the database and the clusters, and mend it.",
    ),
}
GROUP = {
    "create": Lazy("queueapi.cli.admin:create_group", "Create a group."),
    "set": Lazy("queueapi.cli.admin:set_group", "Change a group; what is not named stays."),
    "list": Lazy("queueapi.cli.admin:list_groups", "List all groups."),
    "add": Lazy(
        "queueapi.cli.admin:add_member",
        "Put someone into a group, approve who asked, or change a member.",
    ),
}
NODE = {
    "drain": Lazy("queueapi.cli.nodes:drain", "Let nodes take no new jobs; what runs goes on."),
    "down": Lazy("queueapi.cli.nodes:down", "Likewise, for nodes that are broken."),
    "resume": Lazy("queueapi.cli.nodes:resume", "Let nodes take jobs again."),
    "features": Lazy(
        "queueapi.cli.nodes:features", "Give a node features beside those that it reports."
    ),
}
HOST = {
    "list": Lazy("queueapi.cli.hosts:list_hosts", "List the machines that servers run on."),
    "gone": Lazy("queueapi.cli.hosts:gone", "Give up all that ran on a machine that is gone."),
}
CLUSTER = {
    "add": Lazy("queueapi.cli.clusters:add", "Register a cluster; test it next."),
    "set": Lazy(
        "queueapi.cli.clusters:change",
        "Change a cluster; what is not named stays, and `none` takes away.",
    ),
    "show": Lazy(
        "queueapi.cli.clusters:show",
        "Show a cluster: how it is reached, whose jobs it takes, how large ones.",
    ),
    "test": Lazy(
        "queueapi.cli.clusters:test",
        "Try each thing that jobs need there; says what is wrong, and how to mend it.",
    ),
    "trust": Lazy(
        "queueapi.cli.clusters:trust",
        "Accept a key that the cluster's host shows, beside those accepted before.",
    ),
    "drain": Lazy(
        "queueapi.cli.clusters:drain", "Let a cluster start nothing new; what runs goes on."
    ),
    "down": Lazy(
        "queueapi.cli.clusters:down", "Take a cluster out of use: no job may name it either."
    ),
    "resume": Lazy("queueapi.cli.clusters:resume", "Let a cluster start jobs again."),
    "remove": Lazy("queueapi.cli.clusters:remove", "Forget a cluster."),
    "import": Lazy(
        "queueapi.cli.clusters:import_file",
        "Register the clusters that a list of CyberGIS-Compute names.",
    ),
}
WORKFLOW = {
    "submit": Lazy("queueapi.cli.workflows:submit", "Submit a graph of jobs; prints its id."),
    "status": Lazy("queueapi.cli.workflows:status", "Show a workflow and each of its jobs."),
    "list": Lazy("queueapi.cli.workflows:list_workflows", "List workflows, newest first."),
    "cancel": Lazy(
        "queueapi.cli.workflows:cancel", "Cancel all jobs of a workflow that have not ended."
    ),
}
FOLDER = {
    "upload": Lazy(
        "queueapi.cli.folders:upload", "Upload a folder for jobs; prints what they name it by."
    ),
    "list": Lazy("queueapi.cli.folders:list_folders", "List folders, newest first."),
    "show": Lazy("queueapi.cli.folders:show", "Show a folder, with the list of its files."),
    "delete": Lazy("queueapi.cli.folders:delete", "Delete a folder that no unfinished job names."),
}
KEY = {
    "set": Lazy(
        "queueapi.cli.keys:store",
        "Store the key of your account on a cluster, or have one made; test it next.",
    ),
    "show": Lazy(
        "queueapi.cli.keys:show",
        "Show your account on a cluster: its name, the public half of its key, if it works.",
    ),
    "test": Lazy(
        "queueapi.cli.keys:test",
        "Try your key; says what is wrong, and how to mend it. Jobs start once all is well.",
    ),
    "remove": Lazy("queueapi.cli.keys:remove", "Have the server forget the key."),
}
QUEUE = {
    "create": Lazy("queueapi.cli.queues:create_queue", "Create a queue."),
    "set": Lazy("queueapi.cli.queues:set_queue", "Change a queue; what is not named stays."),
    "delete": Lazy(
        "queueapi.cli.queues:delete_queue", "Delete a queue in which all jobs have ended."
    ),
}
RESERVATION = {
    "create": Lazy(
        "queueapi.cli.reservations:create", "Keep nodes free, for maintenance or for people."
    ),
    "set": Lazy(
        "queueapi.cli.reservations:change", "Change a reservation; what is not named stays."
    ),
    "delete": Lazy("queueapi.cli.reservations:delete", "Give the nodes back."),
}
DOCTOR = {
    "job": Lazy("queueapi.cli.doctor:job", "Show what proves how often a job ran."),
}
USER = {
    "list": Lazy("queueapi.cli.admin:list_users", "List all accounts."),
    "set-role": Lazy("queueapi.cli.admin:set_role", "Make someone an administrator, or no longer."),
    "deactivate": Lazy(
        "queueapi.cli.admin:deactivate", "Close an account: its logins and tokens end."
    ),
    "activate": Lazy("queueapi.cli.admin:activate", "Open a closed account again."),
}


def _group(commands: dict[str, Lazy], text: str) -> typer.Typer:
    """A group of commands; help is plain text, for terminals and files alike."""
    group = typer.Typer(
        cls=lazy_group(commands),
        help=text,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    group.callback()(_nothing)
    return group


def _nothing() -> None:
    """typer makes a group only of what has commands or a callback."""


app = _group(COMMANDS, "Run jobs fairly on whatever you have.")
app.add_typer(_group(WORKFLOW, "Graphs of jobs: submit, status, list, cancel."), name="workflow")
app.add_typer(_group(FOLDER, "Folders for jobs: upload, list, show, delete."), name="folder")
app.add_typer(_group(KEY, "Your own account on a cluster: set, show, test, remove."), name="key")
app.add_typer(_group(DOCTOR, "What is on record of a job's launches: job."), name="doctor")
admin = _group(ADMIN, "Administration: the first administrator, groups, nodes, queues, people.")
admin.add_typer(_group(CLUSTER, "Clusters: register, test, change, drain, remove."), name="cluster")
admin.add_typer(_group(GROUP, "Groups: create, change, list, add members."), name="group")
admin.add_typer(_group(HOST, "Hosts: list, and give up one that is gone."), name="host")
admin.add_typer(_group(NODE, "Nodes: drain, resume, features."), name="node")
admin.add_typer(_group(QUEUE, "Queues: create, change, delete."), name="queue")
admin.add_typer(
    _group(RESERVATION, "Reservations of nodes: create, change, delete."), name="reservation"
)
admin.add_typer(_group(USER, "Accounts: list, roles, deactivate."), name="user")
app.add_typer(admin, name="admin")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"queueapi {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="And exit")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The entry point."""
    app(prog_name="queueapi")
