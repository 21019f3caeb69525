"""Merge what the measuring jobs found, from $QUEUEAPI_INPUT: {"modules": [...]}, into a table."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

modules = json.loads(Path(os.environ["QUEUEAPI_INPUT"]).read_text())["modules"]

good = [m for m in modules if "error" not in m]
packages: dict[str, dict[str, int]] = {}
for module in good:
    top = module["module"].partition(".")[0]
    sums = packages.setdefault(top, dict.fromkeys(("modules", "lines", "functions", "branches"), 0))
    sums["modules"] += 1
    for key in ("lines", "functions", "branches"):
        sums[key] += module[key]

print(f"The standard library of Python {platform.python_version()}: {len(good)} modules")
print(f"{'package':<16}{'modules':>8}{'lines':>9}{'functions':>11}{'branches':>10}")
largest = sorted(packages.items(), key=lambda item: -item[1]["lines"])
for name, sums in largest[:12]:
    print(
        f"{name:<16}{sums['modules']:>8}{sums['lines']:>9}{sums['functions']:>11}"
        f"{sums['branches']:>10}"
    )
total = {key: sum(m[key] for m in good) for key in ("lines", "functions", "branches")}
print(
    f"{'all ' + str(len(packages)):<16}{len(good):>8}{total['lines']:>9}{total['functions']:>11}"
    f"{total['branches']:>10}"
)
longest = max(good, key=lambda m: m["longest_lines"])
print(
    f"The longest function is {longest['module']}.{longest['longest']}: "
    f"{longest['longest_lines']} lines."
)
for module in modules:
    if "error" in module:
        print(f"Not measured: {module['module']}: {module['error']}")
