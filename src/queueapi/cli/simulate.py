"""`simulate`: what would have been, on a real cluster's trace or on the service's own history."""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from queueapi.cli.account import AsJson
from queueapi.cli.commands import Failure
from queueapi.cli.exits import USAGE
from queueapi.cli.output import Output, note
from queueapi.cli.simulate_options import History
from queueapi.cli.simulate_view import document, progress, table
from queueapi.simulate.estimates import ESTIMATES
from queueapi.simulate.export import write_csv
from queueapi.simulate.machine import machine_of, read_nodes
from queueapi.simulate.read import read_trace
from queueapi.simulate.study import Result, Study, Workload
from queueapi.simulate.trace import Trace, TraceError
from queueapi.simulate.variant import POLICIES, UnknownVariant, Variant, parse_variant

_POLICY = f"{', '.join(POLICIES)}; with settings as in fair_share+reservations=4"


def simulate(
    history: History,
    trace: Annotated[
        Path | None, typer.Argument(metavar="TRACE", help="SWF or CSV, plain or gzip")
    ] = None,
    policy: Annotated[
        str, typer.Option("--policy", "-p", help=_POLICY, show_default="easy, or fair_share")
    ] = "",
    estimates: Annotated[
        str, typer.Option(help=f"How long jobs are taken to run: {', '.join(ESTIMATES)}")
    ] = "user",
    compare: Annotated[
        str, typer.Option(metavar="A,B,...", help="Other policies, also as easy:exact")
    ] = "",
    nodes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The machine: NodeName lines as in slurm.conf"),
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="The first so many only")] = None,
    fair_starts: Annotated[
        bool, typer.Option(help="Find unfair starts, which takes one more replay")
    ] = True,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="OUT", help="Write a row for each job")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="OUT.png", help="Draw use and waits")
    ] = None,
    json: AsJson = False,
) -> None:
    """Replay a trace of jobs through the scheduler, and measure what comes of it."""
    _check_outputs(csv, plot)
    try:
        variants = _variants(policy or history.policy, estimates, compare)
        workload = _workload(trace, nodes, history)
        if jobs is not None:
            workload = replace(workload, trace=workload.trace.first(jobs))
        results = _simulate(workload, variants, fair_starts=fair_starts)
    except UnknownVariant as error:
        raise Failure(f"{error}.", USAGE) from None
    except TraceError as error:
        raise Failure(f"{error}.") from None
    _remark(workload.trace, results)
    Output(as_json=json).result([document(result) for result in results], table(results))
    if csv is not None:
        _write(csv, lambda: write_csv(csv, results))
    if plot is not None:
        draw = import_module("queueapi.simulate.plot").draw
        title, cpus = workload.trace.name, workload.machine.cpus
        _write(plot, lambda: draw(plot, title, cpus, results))


def _workload(trace: Path | None, nodes: Path | None, history: History) -> Workload:
    """What to simulate, on what. Raises TraceError and Failure."""
    if (trace is None) is not history.from_database:
        raise Failure("name a trace, or give --from-database, and not both", USAGE)
    if trace is not None and (history.since or history.until):
        raise Failure("--since and --until are of --from-database; --jobs cuts a trace", USAGE)
    if trace is None:
        # Imported when it is wanted, with all that a database needs.
        workload: Workload = import_module("queueapi.cli.simulate_history").load(history)
        return replace(workload, machine=read_nodes(nodes)) if nodes else workload
    read = read_trace(trace)
    return Workload(read, machine_of(read, nodes))


def _simulate(workload: Workload, variants: list[Variant], *, fair_starts: bool) -> list[Result]:
    """What happened in fact, where it is known, and what comes of each variant."""
    with progress(len(workload.trace.jobs)) as watch:
        study = Study(workload, fair_starts=fair_starts, watch=watch)
        results = [study.simulate(variant) for variant in variants]
    recorded = study.recorded()
    return [recorded, *results] if recorded else results


def _variants(policy: str, estimates: str, compare: str) -> list[Variant]:
    """What to simulate, each once. Raises UnknownVariant."""
    texts = [policy, *filter(None, (text.strip() for text in compare.split(",")))]
    variants = {v.name: v for v in (parse_variant(text, estimates) for text in texts)}
    return list(variants.values())


def _check_outputs(csv: Path | None, plot: Path | None) -> None:
    """Before anything is simulated in vain."""
    for path in filter(None, (csv, plot)):
        if not path.parent.is_dir():
            raise Failure(f"{path}: there is no folder {path.parent}")
        if path.is_dir():
            raise Failure(f"{path} is a folder; name a file")
    if plot is not None:
        if find_spec("matplotlib") is None:
            raise Failure("--plot needs matplotlib: pip install 'queueapi[plot]'", USAGE)
        endings = import_module("queueapi.simulate.plot").endings()
        if plot.suffix.lower()[1:] not in endings:
            known = ", ".join(sorted(endings))
            raise Failure(f"{plot}: the name's ending says the format, one of {known}", USAGE)


def _remark(trace: Trace, results: list[Result]) -> None:
    """What a reader must know of the figures."""
    for remark in trace.notes:
        note(remark)
    if trace.dropped:
        left_out = ", ".join(f"{count} {why}" for why, count in trace.dropped.items())
        note(f"jobs left out: {left_out}")
    for result in results:
        if result.never:
            note(f"{result.name}: {result.never} jobs never started; {result.why_never}")


def _write(path: Path, write: Callable[[], None]) -> None:
    try:
        write()
    except OSError as error:
        raise Failure(f"{path}: {error.strerror or error}") from None
