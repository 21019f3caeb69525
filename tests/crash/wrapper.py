"""The run wrapper, with a look before each of its steps at whether it is to die there."""

import re
from pathlib import Path

# A step begins a line, in the main part or in the function that enters the job; what belongs to
# an `if` or a `case` that is under way does not begin one.
_MAIN = re.compile(r"(?!fi|else|elif|esac|then|done|[#\s)}])")
_ENTER = re.compile(r" {4}(?!fi|else|elif|esac|then|done\b|#)\S")


def steps(script: str) -> list[int]:
    """The numbers of the lines before which the wrapper may die."""
    found, depth = [], 0
    lines = script.splitlines()
    first = lines.index("enter() {")
    for number, line in enumerate(lines):
        words = line.strip()
        if number <= first or not words or words.startswith("#"):
            continue
        if "$?" in line:  # which a look would change
            continue
        begins = _MAIN.match(line) if not line.startswith(" ") else _ENTER.match(line)
        if begins and depth == 0:
            found.append(number)
        depth += bool(re.match(r"(if|while|for|case)\b", words)) or words.endswith("|| {")
        depth -= bool(re.match(r"(fi|done|esac)\b", words)) or (depth > 0 and words == "}")
    return found


def torn(script: str) -> set[int]:
    """Those of the steps at which nobody can tell any more what the script has done: after the
    start lock is taken and before the exit record is written."""
    lines = script.splitlines()
    [locked] = [number for number, line in enumerate(lines) if line.endswith(">started || {")]
    [recorded] = [number for number, line in enumerate(lines) if line.endswith(">'exit'")]
    main = lines.index("umask 077")
    return {n for n in steps(script) if n < main or locked < n <= recorded}


def instrumented(script: str, armed: Path) -> str:
    """`armed`: a folder with a file for the step, named by its number."""
    lines = script.splitlines()
    for number in reversed(steps(script)):
        at = f"'{armed}/{number}'"
        indent = " " * (len(lines[number]) - len(lines[number].lstrip()))
        look = f"[ -e {at} ] && [ ! -e {at}.met ] && : >{at}.met && kill -9 $$"
        lines.insert(number, f"{indent}{look}")
    return "\n".join(lines) + "\n"
