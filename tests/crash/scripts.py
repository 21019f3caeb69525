"""The shell scripts of a launch, with a look before each of their steps at whether they are to die
there. A point of a script is its name and the number of a line."""

import re
from pathlib import Path
from typing import Final

LINE: Final = "line of "  # begins such a point
# What begins a line and is no step: it belongs to what is under way.
_WITHIN: Final = re.compile(r"(fi|else|elif|esac|then|do|done)\b|[#})]|;;")
_GOES_ON: Final = re.compile(r"(\\|\||&&)$")
_COMMENT: Final = re.compile(r"(^|\s)#\s.*")
_LOOK: Final = """\
# look.sh POINT PID: notes the point, or has the process end there, once
set -C
if [ -e '{armed}/record' ]; then
    IFS= read -r run <'{armed}/record'
    printf '%s\\t%s\\n' "$run" "{line}$1" >>'{points}'
elif [ -e '{armed}/armed' ] && IFS= read -r point <'{armed}/armed' && [ "$point" = "$1" ] &&
    : 2>/dev/null >'{armed}/met'; then
    kill -9 "$2"
fi
"""


def steps(script: str) -> list[int]:
    """The indexes of the lines before which it may die."""
    found: list[int] = []
    is_pattern = goes_on = is_quoted = False  # of the line that comes
    for number, line in enumerate(script.splitlines()):
        words = _COMMENT.sub("", line).strip()
        begins = not (is_pattern or goes_on or is_quoted or _WITHIN.match(words))
        # A look would change what `$?` is.
        if words and begins and "$?" not in words and not words.endswith("() {"):
            found.append(number)
        if not words:
            continue
        is_quoted ^= words.count("'") % 2 == 1
        goes_on = bool(_GOES_ON.search(words))
        ended = words.endswith(";;")
        is_pattern = words.endswith(" in") or ended
    return found


def torn(wrapper: str) -> set[int]:
    """Those of the run wrapper's steps at which nobody can tell any more what the script has done:
    after the start lock is taken and before the exit record is written."""
    lines = wrapper.splitlines()
    [locked] = [number for number, line in enumerate(lines) if line.endswith(">started || {")]
    main = lines.index("umask 077")
    return {n for n in steps(wrapper) if n < main or locked < n <= recorded(wrapper)}


def recorded(wrapper: str) -> int:
    """The index of the line by which the run wrapper writes the exit record."""
    lines = wrapper.splitlines()
    [found] = [number for number, line in enumerate(lines) if line.endswith(">'exit'")]
    return found


class Armed:
    """A folder that the instrumented scripts of a lane look into."""

    def __init__(self, folder: Path, points: Path) -> None:
        self._folder = folder
        look = _LOOK.format(armed=folder, points=points, line=LINE)
        (folder / "look.sh").write_text(look)
        (folder / "look.sh").chmod(0o644)

    def record(self, run: int) -> None:
        self._put("record", str(run))

    def arm(self, point: str) -> None:
        self._put("armed", point.removeprefix(LINE))

    def disarm(self) -> bool:
        """Whether the point was met."""
        met = (self._folder / "met").exists()
        for name in ("any", "record", "armed", "met"):
            (self._folder / name).unlink(missing_ok=True)
        return met

    def _put(self, name: str, words: str) -> None:
        for path in (self._folder / name, self._folder / "any"):
            path.write_text(f"{words}\n")
            path.chmod(0o644)

    def instrumented(self, script: Path) -> str:
        """With the looks. Whoever runs it may write to the folder."""
        text = script.read_text()
        lines = text.splitlines()
        for number in reversed(steps(text)):
            indent = " " * (len(lines[number]) - len(lines[number].lstrip()))
            look = f"/bin/sh '{self._folder}/look.sh' '{script.name}:{number}' $$ </dev/null"
            lines.insert(number, f"{indent}[ ! -e '{self._folder}/any' ] || {look}")
        return "\n".join(lines) + "\n"
