"""Lists of hosts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queueapi.executors.slurm.hostlist import BadHostList, expand


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("node1", ("node1",)),
        ("node[1-3]", ("node1", "node2", "node3")),
        ("node[01-03,7]", ("node01", "node02", "node03", "node7")),
        ("node[098-101]", ("node098", "node099", "node100", "node101")),
        ("a1,b[2,4],c", ("a1", "b2", "b4", "c")),
        ("r[1-2]n[1-2]", ("r1n1", "r1n2", "r2n1", "r2n2")),
        ("gpu[1-2].example.org", ("gpu1.example.org", "gpu2.example.org")),
        ("(null)", ()),
        ("None assigned", ()),
        ("", ()),
    ],
)
def test_a_list_is_expanded_in_its_order(text: str, hosts: tuple[str, ...]) -> None:
    assert expand(text) == hosts


@pytest.mark.parametrize(
    "text", ["node[1-", "node]1[", "n[a-b]", "n[3-1]", "n[]", "a,,b", ",a", "n[1]]"]
)
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(BadHostList):
        expand(text)


@pytest.mark.parametrize(
    "text", ["n[0-999999999]", "a[0-999]b[0-999]c[0-999]", "n[1-60000],m[1-60000]"]
)
def test_a_list_that_would_fill_the_memory_is_refused(text: str) -> None:
    with pytest.raises(BadHostList, match="more than"):
        expand(text)


@given(st.lists(st.integers(0, 9999), min_size=1, max_size=30), st.integers(1, 4))
def test_each_number_gives_a_host(numbers: list[int], width: int) -> None:
    text = ",".join(f"{each:0{width}}" for each in numbers)
    assert expand(f"n[{text}]") == tuple(f"n{each:0{width}}" for each in numbers)


@given(st.text(alphabet="ab0129-[],.()", max_size=40))
def test_any_text_is_a_list_or_refused(text: str) -> None:
    try:
        hosts = expand(text)
    except BadHostList:
        return
    assert all(hosts)
    assert not any(set(host) & set("[],") for host in hosts)
