"""Dependencies and workflows from the command line, on jobs that really run."""

import json
import re
from pathlib import Path

from tests.cli.server import Cli

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "workflow.json"
GUIDE = EXAMPLE.parents[1] / "workflows.md"


def test_the_example_runs_to_its_end(ada: Cli) -> None:
    submitted = ada.run("workflow", "submit", str(EXAMPLE))
    assert re.fullmatch(r"\d+\n", submitted.stdout)
    workflow_id = int(submitted.stdout)
    jobs = {job["label"]: job for job in ada.json("workflow", "status", workflow_id)["jobs"]}
    waiting = ada.run("workflow", "status", workflow_id).stdout
    assert re.search(r"afterany:compare,afterany:report-failure|DependencyNever", waiting)
    ada.run("wait", jobs["clean-up"]["job_id"])
    done = ada.json("workflow", "status", workflow_id)
    assert done["status"] == "completed"
    assert {job["label"] for job in done["jobs"] if job["status"] != "completed"} == {
        "report-failure"
    }
    starts = {name: ada.status(job["job_id"]) for name, job in jobs.items()}
    for before, after in (("fetch", "small"), ("large", "compare"), ("compare", "clean-up")):
        assert starts[before]["completed_at"] <= starts[after]["started_at"]
    assert starts["clean-up"]["stdout_tail"] == "all is tidy\n"
    listed = ada.run("workflow", "list", "--limit", 1).stdout
    assert re.search(rf"^{workflow_id} +train and compare +completed +5 completed", listed, re.M)
    assert ada.run("workflow", "cancel", workflow_id, expect=1).stderr.count("ended already")


def test_the_guide_shows_the_example() -> None:
    """The graph that the guide sends is the file beside it."""
    guide = GUIDE.read_text(encoding="utf-8")
    body = re.search(r"-d '(\{\n.*?)' \| field", guide, re.S)
    assert body is not None
    assert json.loads(body[1]) == json.loads(EXAMPLE.read_text(encoding="utf-8"))


def test_options_become_dependencies(ada: Cli) -> None:
    first, second = ada.submit("exit 3"), ada.submit("true")
    ada.run("wait", first, second, expect=1)
    options = ["--after-any", f"{first},{second}", "--after", str(second)]
    assert "named twice" in ada.run("submit", *options, "-c", "true", expect=1).stderr
    third = ada.submit("true", "--after-not-ok", str(first), "--after-ok", str(second))
    ada.run("wait", third)
    found = {(d["job_id"], d["kind"]): d["state"] for d in ada.status(third)["depends_on"]}
    assert found == {(first, "afternotok"): "satisfied", (second, "afterok"): "satisfied"}
    never = ada.submit("true", "--after-ok", str(first))
    assert ada.run("wait", never, expect=202).stdout == f"{never} cancelled\n"
    assert "DependencyNeverSatisfied" in ada.run("status", never).stdout
    stays = ada.submit("true", "--after-ok", str(first), "--on-dependency-failure", "wait")
    assert ada.status(stays)["reason"] == "DependencyNeverSatisfied"
    ada.run("cancel", stays)
    array = ada.submit("true", "--array", "0-1")
    behind = ada.submit("true", "--array", "1", "--after-corr", str(array))
    ada.run("wait", behind)
    assert ada.status(behind)["depends_on"][0]["kind"] == "aftercorr"
    refused = ada.run("submit", "--after-ok", "1,x", "-c", "true", expect=2)
    assert "'x' is not a job's id" in refused.stderr


def test_a_file_that_is_no_workflow_is_refused(ada: Cli) -> None:
    for text, words in (
        ("{", "is not JSON"),
        ("[]", "has no list of jobs"),
        ('{"jobs": [], "job": 1}', "no 'job'"),
    ):
        (ada.home / "graph.json").write_text(text)
        assert words in ada.run("workflow", "submit", "graph.json", expect=2).stderr
    assert "No such file" in ada.run("workflow", "submit", "none.json", expect=2).stderr
    circle = '{"jobs": [{"label": "a", "script": "x", "waits_for": [{"label": "a"}]}]}'
    refused = ada.run("workflow", "submit", "-", stdin=circle, expect=1)
    assert "/jobs/0/waits_for/0/label: 'a' can't wait for itself" in refused.stderr


def test_a_cancel_is_shown_job_by_job(ada: Cli) -> None:
    body = {
        "jobs": [
            {"label": "long", "script": "sleep 600"},
            {"label": "next", "script": "true", "waits_for": [{"label": "long"}]},
        ]
    }
    workflow = ada.json("workflow", "submit", "-", "--name", "n", stdin=json.dumps(body))
    assert workflow["name"] == "n"
    shown = ada.run("workflow", "cancel", workflow["id"]).stdout
    assert re.search(r"^next +\d+ +cancelled", shown, re.M)
    ada.run("wait", workflow["jobs"][0]["job_id"], expect=202)
    assert ada.json("workflow", "status", workflow["id"])["status"] == "cancelled"
