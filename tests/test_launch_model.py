"""The model of launch and take-over holds, and breaks when a part of the design is taken out."""

import importlib
import re
import shutil
import subprocess
from functools import reduce
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "models"
PAGE = (ROOT / "docs" / "exactly-once.md").read_text(encoding="utf-8")
MODEL = (FOLDER / "launch.pml").read_text(encoding="utf-8")
BREAKS = {
    ("NO_FENCE",): "mine==epoch",
    ("NO_FENCE", "STALE_ALLOWED"): "job==",
    ("NO_ADOPTION",): "job==",
    ("NO_PREPARED",): "job==",
    ("NO_LAUNCH_LOCK",): "runs[k]==1",
    ("NO_FOLDER_LOCK",): "runs[k]==1",
}
HOLDS = [(), ("NO_SUPERVISOR_LOCK",), ("NO_STARTED_LOCK",)]

with_spin = pytest.mark.skipif(
    not (shutil.which("spin") and shutil.which("cc")),
    reason="spin or a C compiler is not installed",
)


def check(*taken_out: str, faults: int = 2) -> tuple[int, str]:
    """The exit status of the check, and what it says last."""
    options = [f"-DFAULTS={faults}", *(f"-D{name}" for name in taken_out)]
    done = subprocess.run(
        [str(FOLDER / "check.sh"), *options], capture_output=True, text=True, check=False
    )
    return done.returncode, (done.stdout.splitlines() or [done.stderr])[-1]


@with_spin
@pytest.mark.parametrize("taken_out", HOLDS, ids=lambda names: "-".join(names) or "the design")
def test_the_model_holds(taken_out: tuple[str, ...]) -> None:
    # `make check` does so with two faults, which takes ten times as long.
    assert check(*taken_out, faults=1) == (0, "Every run comes to an end.")


@with_spin
@pytest.mark.parametrize("taken_out", BREAKS, ids="-".join)
def test_the_model_breaks_without(taken_out: tuple[str, ...]) -> None:
    status, last = check(*taken_out)
    assert status == 1
    assert last.startswith("pan:1: assertion violated") and BREAKS[taken_out] in last


def test_the_page_tells_of_all_that_can_be_taken_out() -> None:
    names = set(re.findall(r"#(?:ifn?def |elif defined\()(NO_\w+)", MODEL))
    told = set(re.findall(r"^\| `(NO_\w+)` \|", PAGE, re.M))
    assert told == names == {name for names in (*BREAKS, *HOLDS) for name in names[:1]}


# FORGET lets a process of the model be used anew, FAULTS is how many are tried.
OF_THE_MODEL_ALONE = {"FORGET", "FAULTS"}


def part(title: str) -> str:
    """A chapter of the page."""
    return PAGE.partition(f"### {title}\n")[2].partition("\n### ")[0]


def mapping() -> dict[str, str]:
    """Each label of the page's table, with its cell of the code."""
    return dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", part("What the labels stand for"), re.M))


def assertions() -> dict[str, str]:
    """What the page says is asserted, with what keeps it."""
    rows = re.findall(r"^\| `(.+?)` \| (.+) \|$", part("What is asserted"), re.M)
    return {words.replace("\\|", "|"): cell for words, cell in rows}


def on_slurm() -> str:
    return part("What is asserted").rpartition("|\n")[2].replace("\n", " ")


def test_each_label_of_the_model_is_tied_to_code() -> None:
    labels = set(re.findall(r"^(\w+):", MODEL, re.M))
    macros = set(re.findall(r"#define (\w+)[( ]", MODEL)) - OF_THE_MODEL_ALONE
    assert mapping().keys() == labels | {name for name in macros if not name.startswith("NO_")}


def test_each_assertion_of_the_model_is_tied_to_code() -> None:
    asserted = re.findall(r"assert\((.+?)\)(?:;| /\*|$|\s*$)", MODEL, re.M)
    assert len(asserted) == MODEL.count("assert(")
    assert assertions().keys() == set(asserted)


@pytest.mark.parametrize(
    "cell",
    [*mapping().values(), *assertions().values(), on_slurm()],
    ids=[*mapping(), *assertions(), "on Slurm"],
)
def test_the_code_that_the_page_names_is_there(cell: str) -> None:
    files = re.findall(r"`(\w+/[\w./]+)`: `([^`]+)`", cell)
    names = re.findall(r"`(queueapi[\w.]+):([\w.]+)`", cell)
    assert files or names
    for path, words in files:
        assert words in (ROOT / path).read_text(encoding="utf-8")
    for module, name in names:
        found = importlib.import_module(module)
        owner, _, last = name.rpartition(".")
        holder = reduce(getattr, owner.split("."), found) if owner else found
        source = Path(str(found.__file__)).read_text(encoding="utf-8")
        assert hasattr(holder, last) or f"self.{last}" in source, f"{module} has no {name}"
