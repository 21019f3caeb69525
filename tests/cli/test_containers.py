"""`queueapi submit --image`."""

from typing import Any

import pytest
import typer

from queueapi.cli.job_options import JobOptions


def fields(**options: Any) -> Any:
    return JobOptions(**options).fields().get("container")


def test_an_image_and_its_binds_are_asked_for() -> None:
    found = fields(image="/x.sif", bind=["/maps:/m", "/scratch:/s:rw"])
    assert found == {
        "image": "/x.sif",
        "binds": [
            {"source": "/maps", "target": "/m", "writable": False},
            {"source": "/scratch", "target": "/s", "writable": True},
        ],
    }


def test_without_an_image_there_is_no_container() -> None:
    assert fields() is None


@pytest.mark.parametrize("bind", ["/maps", "/a:/b:rx", "/a:/b:ro:/c"])
def test_a_bind_that_is_none_is_refused(bind: str) -> None:
    with pytest.raises(typer.BadParameter, match="PATH:INSIDE"):
        fields(image="/x.sif", bind=[bind])


def test_a_bind_without_an_image_is_refused() -> None:
    with pytest.raises(typer.BadParameter, match="--image"):
        fields(bind=["/a:/b"])
