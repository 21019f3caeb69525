"""What makes a graph of jobs, and what is refused of it by name."""

from typing import Any

import pytest

from queueapi.errors import Invalid
from queueapi.jobs.graph import Wait, arrange
from queueapi.jobs.models import DependencyKind
from queueapi.jobs.workflow_schemas import WorkflowJob


def jobs(**needs: str) -> list[WorkflowJob]:
    """By label, the labels that each waits for: jobs(a="", b="a")."""
    return [
        WorkflowJob.model_validate(
            {"script": "true", "label": label, "waits_for": [{"label": n} for n in names.split()]}
        )
        for label, names in needs.items()
    ]


def refused(found: list[WorkflowJob]) -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as caught:
        arrange("", found)
    return [(error.pointer, error.message) for error in caught.value.errors]


def test_labels_become_places() -> None:
    ok = DependencyKind.AFTEROK
    graph = arrange("g", jobs(c="a b", a="", b="a"))
    assert (graph.name, graph.labels) == ("g", ["c", "a", "b"])
    assert graph.waits == [Wait(0, 1, ok), Wait(0, 2, ok), Wait(2, 1, ok)]


def test_a_circle_is_refused_by_name() -> None:
    errors = refused(jobs(start="", a="start c", b="a", c="b", end="c"))
    assert sorted(pointer for pointer, _ in errors) == [f"/jobs/{i}/waits_for" for i in (1, 2, 3)]
    [words] = {message for _, message in errors}
    path = words.rpartition(": ")[2]
    # Each waits for the next, whichever it begins with.
    assert path in ("a → c → b → a", "c → b → a → c", "b → a → c → b")


def test_a_job_that_needs_itself_is_refused() -> None:
    assert refused(jobs(a="a")) == [("/jobs/0/waits_for/0/label", "'a' can't wait for itself")]


def test_a_label_that_nobody_has_is_refused() -> None:
    words = "no job of this workflow has the label 'A'"
    assert refused(jobs(a="", b="a A")) == [("/jobs/1/waits_for/1/label", words)]


def test_a_label_that_two_have_is_refused() -> None:
    [(pointer, words)] = refused([*jobs(a="", b="a"), *jobs(a="")])
    assert pointer == "/jobs/2/label"
    assert words == "'a' is the label of /jobs/0 already; choose another"


def test_a_need_that_is_named_twice_is_refused() -> None:
    assert refused(jobs(a="", b="a a")) == [
        ("/jobs/1/waits_for/1/label", "'b' names 'a' twice; once is enough")
    ]


def test_all_that_is_wrong_is_told_at_once_up_to_a_hundred() -> None:
    assert len(refused(jobs(a="a x", b="y z z"))) == 5
    assert len(refused(jobs(a="x " * 300))) == 100


def test_a_chain_of_ten_thousand_is_arranged_at_once() -> None:
    names: Any = {f"n{i}": f"n{i + 1}" for i in range(9_999)} | {"n9999": ""}
    chain = jobs(**names)
    assert len(arrange("", chain).waits) == 9_999
    chain[-1] = jobs(n9999="n0")[0]
    errors = refused(chain)  # and a circle as long is found, and told in few words
    assert len(errors) == 100
    assert "(9981 more)" in errors[0][1]
    assert len(errors[0][1]) < 500


def test_a_graph_with_too_many_edges_is_refused() -> None:
    many = " ".join(f"n{i}" for i in range(1000))
    dense = jobs(**{f"n{i}": "" for i in range(1000)}, **{f"m{i}": many for i in range(101)})
    assert refused(dense) == [
        ("/jobs", "all jobs together wait for 101000 others; the most is 100000")
    ]
