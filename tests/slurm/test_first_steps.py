"""What docs/slurm-first-steps.md tells a newcomer, done as it stands there on a real Slurm."""

import asyncio
import os
import re
from pathlib import Path
from typing import Any

from queueapi.auth.models import Role
from tests.controller.serving import Server
from tests.executors.slurm.conftest import server, web
from tests.executors.web import Web
from tests.slurm.lab import Lab
from tests.slurm.test_containers import apptainer, image, lab

__all__ = ["apptainer", "image", "lab", "server", "web"]
DOCUMENT = Path(__file__).parents[2] / "docs/slurm-first-steps.md"


def blocks(own: dict[str, str]) -> list[str]:
    """Those of the document; the two that name what a cluster has, as ours has it."""
    found = re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert [block.split("=")[0] for block in found if block.split("=")[0] in own] == list(own)
    return [own.get(block.split("=")[0], block) for block in found]


async def test_first_steps_work_as_they_are_written(
    server: Server, make_person: Any, slurm_lab: Lab, web: Web, image: str, apptainer: str
) -> None:
    root = slurm_lab.jobs_root / "first"
    web.serve("/maps.csv", b"a,b\n")
    options = f'"container_program": "{apptainer}", "data_hosts": ["{web.address}"], '
    options += f'"data_ca_file": "{web.ca_file}",'
    own = {
        "HOST": f"HOST={slurm_lab.ssh_host} PORT={slurm_lab.ssh_port} LOGIN={slurm_lab.user}\n"
        f"KEY={slurm_lab.ssh_key} HOST_KEY='{slurm_lab.host_key}' ROOT={root}\n"
        f"IMAGES='\"{image}\"' OPTIONS='{options}'\n",
        "IMAGE": f"IMAGE={image} DATA={web.url}/maps.csv\n",
    }
    script = "set -eu -o pipefail\n" + "echo '# next'\n".join(blocks(own))
    boss, ann = await make_person(role=Role.ADMIN), await make_person()
    environment = {"SERVER": server.url, "ADMIN_TOKEN": boss.token, "USER_TOKEN": ann.token}
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", script, env={"PATH": os.environ["PATH"], **environment},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        stdout, stderr = await asyncio.wait_for(process.communicate(), 240)
    finally:
        slurm_lab.cancel_all()
    said = stdout.decode().split("# next\n")
    assert process.returncode == 0, (said, stderr)
    tested, plain, gpu, array, graph, boxed, long = said[1], *said[2:6], *said[7:9]
    assert '"ok": true' in tested and '"ok": false' not in tested
    assert plain.startswith("completed\n") and f"as {slurm_lab.user}, job " in plain
    assert gpu == "completed\nmy GPU: 0\n"
    assert array.split("\n")[1:-1] == [f"{i} completed" for i in range(6)]
    assert graph == "completed\n"
    assert boxed.startswith("completed\nmaps.csv\nmade it\na,b\n") and boxed.endswith("copy\n")
    assert 'text":"line 1' in long and long.endswith("cancelled\n")
