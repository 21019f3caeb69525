"""A storm's table, for people."""

from rich.console import Console
from rich.table import Table

from tests.chaos.storm import Report


def show(report: Report, console: Console) -> None:
    verdict = report.verdict
    table = Table(title=f"Storm {report.plan.seed}: {report.seconds:.0f} s", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    rows = {
        "submitted": verdict.submitted,
        "accepted": verdict.accepted,
        "ran once": verdict.ran_once,
        "cancelled before they ran": verdict.ran_not,
        "ran twice": verdict.ran_twice,
        "never ran": verdict.never_ran,
        "wrong state": verdict.wrong_state,
        "charged wrongly": verdict.charged_wrongly,
        "other faults": verdict.other,
        "not ended": report.unfinished,
        "wrong answers": len(report.heard.wrong),
    }
    for name, figure in rows.items():
        table.add_row(name, str(figure))
    table.add_section()
    for name, figure in sorted(report.storm.done.items()):
        table.add_row(name, str(figure))
    table.add_row("server starts after the first", str(report.restarts))
    table.add_row("of these because it had ended by itself", str(report.ended_by_themselves))
    table.add_section()
    for status, figure in sorted(report.heard.answers.items()):
        words = "requests without an answer" if status == "none" else f"answers {status}"
        table.add_row(words, str(figure))
    console.print(table)
    for words in verdict.words:
        console.print(f"- {words}", markup=False)
    for words, figure in report.heard.wrong.most_common(20):
        console.print(f"- {figure} times: {words}", markup=False)
    for words in report.storm.skipped:
        console.print(f"Skipped: {words}", markup=False)
