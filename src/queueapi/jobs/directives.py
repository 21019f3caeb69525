"""Lines of scripts that mean something elsewhere, and nothing here."""

import re
from typing import Final

_SBATCH: Final = re.compile(r"^#SBATCH\b", re.MULTILINE)
_SHOWN: Final = 5  # lines


def warnings(script: str) -> list[str]:
    """What whoever wrote the script should know of it, in words."""
    if "#SBATCH" not in script:
        return []
    lines = [script.count("\n", 0, found.start()) + 1 for found in _SBATCH.finditer(script)]
    if not lines:
        return []
    shown = ", ".join(map(str, lines[:_SHOWN])) + (", ..." if len(lines) > _SHOWN else "")
    where = f"line {shown}" if len(lines) == 1 else f"lines {shown}"
    return [
        f"The #SBATCH directives of the script ({where}) have no effect. Say what the job needs in "
        "its own fields, or in Slurm's words in `slurm`."
    ]
