"""Amounts of resources as Slurm writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queueapi.executors.slurm.tres import (
    MIB,
    parse_gpus,
    parse_gres_names,
    parse_size,
    parse_tres,
)


def test_a_list_of_resources_is_read() -> None:
    found = parse_tres(
        "cpu=4,mem=1.50G,node=2,billing=4,gres/gpu=3,gres/gpu:a100=2,gres/gpu:v100=1"
    )
    assert (found.cpus, found.nodes, found.gpus) == (4, 2, 3)
    assert found.memory_bytes == 3 << 29
    assert found.gpus_by_type == {"a100": 2, "v100": 1}


def test_gpus_that_are_listed_by_type_alone_are_counted() -> None:
    assert parse_tres("gres/gpu:a100=2,gres/gpu:v100=1,cpu=1").gpus == 3


@pytest.mark.parametrize("text", ["", "(null)", "N/A"])
def test_no_list_is_no_resources(text: str) -> None:
    assert parse_tres(text) == parse_tres("cpu=0")


@pytest.mark.parametrize("text", ["cpu", "cpu=x", "=4", "cpu=1,,mem=1", "mem=16Q", "cpu=4|mem=1"])
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_tres(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("16G", 16 << 30),
        ("7264K", 7264 << 10),
        ("1.50G", 3 << 29),
        ("16000", 16000 * MIB),
        ("512Mn", 512 * MIB),
        ("4Gc", 4 << 30),
        ("2T", 2 << 40),
        ("0", 0),
        ("", None),
    ],
)
def test_a_size_is_read_in_its_unit(text: str, size: int | None) -> None:
    assert parse_size(text) == size


def test_a_size_of_accounting_without_a_unit_counts_bytes() -> None:
    assert parse_size("3399680", unit=1) == 3_399_680


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        ("gpu:2", ("gpu", "gpu")),
        ("gpu:a100:2", ("a100", "a100")),
        ("gpu:A100:1(S:0-1)", ("a100",)),
        ("gpu:a100:2(S:0,2),gpu:v100:1(S:1)", ("a100", "a100", "v100")),
        ("gpu:a100:2(IDX:0,3),nvme:1(CNT:1)", ("a100", "a100")),
        ("gpu:(null):0(IDX:N/A)", ()),
        ("gpu:0", ()),
        ("gpu", ("gpu",)),
        ("license:7,nvme:2", ()),
        ("(null)", ()),
        ("", ()),
    ],
)
def test_the_gpus_of_a_node_are_counted_by_type(gres: str, gpus: tuple[str, ...]) -> None:
    assert parse_gpus(gres) == gpus


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    assert all(parse_gpus(text))
    for parse in (parse_size, parse_tres):
        try:
            parse(text)
        except ValueError:
            continue


@pytest.mark.parametrize(
    ("gres", "names"),
    [
        ("(null)", ()),
        ("gpu:a100:2(S:0-1)", ()),
        ("gpu:2,nvme:4", ("nvme",)),
        ("nvme:fast:2(S:0,1),license:1K", ("license", "nvme", "nvme:fast")),
    ],
)
def test_other_resources_of_a_node_are_known_by_name(gres: str, names: tuple[str, ...]) -> None:
    assert parse_gres_names(gres) == names
