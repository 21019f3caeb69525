"""What enters a container: what the job may see, and nothing that it may not name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queueapi.executors.base import Bind, Container, LaunchRefused
from queueapi.executors.slurm.container import (
    Allowed,
    Places,
    check_container,
    check_image,
    enter_argv,
    read_allowed,
)

IMAGE = "/images/python.sif"
PLACES = Places("/q/qa-1", "/q/run_wrapper.sh", "/q/files/ab12", "/q/qa-1/data", "/q/qa-1/result")
ALLOWED = Allowed(
    images=("/images/*.sif", "docker://python:3.12", "docker://ghcr.io/lab/*"),
    sources={"/shared/maps": False, "/scratch/lab": True},
)


def binds_of(argv: tuple[str, ...]) -> list[str]:
    return [argv[i + 1] for i, word in enumerate(argv) if word == "--bind"]


def test_the_folders_have_the_names_that_jobs_know() -> None:
    binds = binds_of(enter_argv(Container(IMAGE), PLACES))
    assert binds[-3:] == [
        "/q/files/ab12:/job/executable:ro",
        "/q/qa-1/data:/job/data:ro",
        "/q/qa-1/result:/job/result:rw",
    ]


def test_of_the_jobs_folder_it_sees_what_it_needs_alone() -> None:
    """So it can't write an exit record or take the lock of its own run."""
    binds = binds_of(enter_argv(Container(IMAGE), Places("/q/qa-1", "/q/run_wrapper.sh")))
    assert binds == [
        "/q/run_wrapper.sh:/q/run_wrapper.sh:ro",
        "/q/qa-1/script:/q/qa-1/script:ro",
        "/q/qa-1/environment:/q/qa-1/environment:ro",
        "/q/qa-1/work:/q/qa-1/work:rw",
    ]


def test_gpus_and_binds_are_asked_for() -> None:
    binds = (Bind("/shared/maps", "/maps"), Bind("/scratch/lab", "/lab", writable=True))
    argv = enter_argv(Container(IMAGE, binds, gpus=True), PLACES, program="/opt/bin/singularity")
    assert argv[0] == "/opt/bin/singularity"
    assert "--nv" in argv
    assert binds_of(argv)[-2:] == ["/shared/maps:/maps:ro", "/scratch/lab:/lab:rw"]
    assert argv[-1] == IMAGE


@pytest.mark.parametrize(
    "image",
    [IMAGE, "docker://python:3.12", "docker://ghcr.io/lab/tool:1", "docker://ghcr.io/lab/x"],
)
def test_an_image_of_the_list_is_allowed(image: str) -> None:
    check_container(Container(image), ALLOWED)


@pytest.mark.parametrize(
    "image",
    [
        "/images/deep/python.sif",
        "/images/python.img",
        "/home/me/python.sif",
        "docker://python:3.13",
        "docker://python:3.12x",
        "docker://evil.org/python:3.12",
        "docker://ghcr.io/lab/deep/tool",
        "oras://ghcr.io/lab/tool",
    ],
)
def test_another_image_is_not(image: str) -> None:
    with pytest.raises(LaunchRefused, match="not allowed on this cluster"):
        check_container(Container(image), ALLOWED)


def test_without_a_list_no_image_is_allowed() -> None:
    with pytest.raises(LaunchRefused, match="not allowed"):
        check_container(Container(IMAGE), Allowed())


@pytest.mark.parametrize(
    "image",
    ["", "--help", "python", "images/x.sif", "/images/../etc/x.sif", "docker://", "docker://a b",
     "docker-daemon:x", "instance://x", "http://x/y.sif", "/images/a,b.sif", "/images/a:b.sif",
     "docker://x;id", "docker://x\n", "/images/x.sif\n", "docker://" + "a" * 500,
     "docker://x@sha256:123"],
)  # fmt: skip
def test_a_hostile_image_is_refused_whatever_the_list(image: str) -> None:
    everything = Allowed(images=("*", "/*", "/*/*", "docker://*", "docker-daemon:*"))
    with pytest.raises(LaunchRefused):
        check_container(Container(image), everything)
    with pytest.raises(LaunchRefused):
        enter_argv(Container(image), PLACES)


@pytest.mark.parametrize(
    ("bind", "words"),
    [
        (Bind("/etc", "/x"), "may not be bound"),
        (Bind("/shared/maps/below", "/x"), "may not be bound"),
        (Bind("/shared/maps/../..", "/x"), "not a plain absolute path"),
        (Bind("/shared", "/x"), "may not be bound"),
        (Bind("/shared/maps", "/x", writable=True), "read-only"),
        (Bind("/shared/maps", "x"), "not a plain absolute path"),
        (Bind("/shared/maps", "/x:rw"), "not a plain absolute path"),
        (Bind("/shared/maps", "/x,/etc:/y"), "not a plain absolute path"),
        (Bind("/shared/maps", "/"), "not a plain absolute path"),
        (Bind("/shared/maps", "/job"), "taken"),
        (Bind("/shared/maps", "/job/data/more"), "taken"),
        (Bind("/shared/maps", "/proc"), "taken"),
        (Bind("/shared/maps", "/dev/shm"), "taken"),
    ],
)
def test_a_bind_that_is_not_allowed_is_refused(bind: Bind, words: str) -> None:
    with pytest.raises(LaunchRefused, match=words):
        check_container(Container(IMAGE, (bind,)), ALLOWED)


def test_two_binds_can_not_have_one_place() -> None:
    binds = (Bind("/shared/maps", "/a"), Bind("/scratch/lab", "/a/b"))
    with pytest.raises(LaunchRefused, match="/a/b is taken"):
        check_container(Container(IMAGE, binds), ALLOWED)


@pytest.mark.parametrize("target", ["/q", "/q/qa-1", "/q/qa-1/work/x", "/q/run_wrapper.sh"])
def test_a_bind_can_not_hide_the_run_itself(target: str) -> None:
    with pytest.raises(LaunchRefused, match="taken"):
        enter_argv(Container(IMAGE, (Bind("/shared/maps", target),)), PLACES)


@pytest.mark.parametrize("program", ["sh", "rm", "apptainer exec", "-x", "", "/a b", "apptainer\n"])
def test_only_a_program_for_containers_is_called(program: str) -> None:
    with pytest.raises(LaunchRefused, match="not a program"):
        enter_argv(Container(IMAGE), PLACES, program=program)


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_whatever_is_accepted_is_one_word(image: str, source: str, target: str) -> None:
    try:
        argv = enter_argv(Container(image, (Bind(source, target),)), PLACES)
    except LaunchRefused:
        return
    assert argv[-1] == image == check_image(image)
    assert argv[-2] == f"{source}:{target}:ro"
    assert argv[-2].count(":") == 2
    assert "," not in argv[-2]


def test_an_operators_lists_are_read() -> None:
    allowed = read_allowed(["/images/*.sif"], {"/shared/maps": "ro", "/scratch/lab": "rw"})
    assert allowed == Allowed(("/images/*.sif",), {"/shared/maps": False, "/scratch/lab": True})


@pytest.mark.parametrize(
    ("images", "binds", "words"),
    [
        ("/images/x.sif", {}, "container_images must be a list"),
        ([1], {}, "container_images must be a list"),
        ([], ["/shared"], "container_binds must have"),
        ([], {"/shared": "rx"}, "container_binds must have"),
        ([], {"/shared": ["ro"]}, "container_binds must have"),
        ([], {"shared": "ro"}, "not a plain absolute path"),
    ],
)
def test_lists_that_are_wrong_are_told_of(images: object, binds: object, words: str) -> None:
    with pytest.raises(LaunchRefused, match=words):
        read_allowed(images, binds)
