"""How much of our jobs may wait in Slurm's own queue, and in what shapes."""

from queueapi.executors.base import NodeInventory
from queueapi.executors.slurm.capacity import queue_places

CPU = [NodeInventory(f"c{number}", 8, 16_000, ()) for number in range(100)]
GPU = [NodeInventory(f"g{number}", 16, 64_000, ("a100",) * 4) for number in range(3)]


def test_there_is_room_for_about_as_many_jobs_as_may_wait() -> None:
    places = queue_places(CPU, 100)
    assert sum(place.cpus for place in places) == 104
    assert {(place.cpus, place.memory_mb, place.taken_cpus) for place in places} == {(8, 16_000, 0)}
    assert [place.name for place in places[:2]] == ["queue~c0", "queue~c1"]
    assert [place.queue_of for place in places[:2]] == ["c0", "c1"]


def test_every_kind_of_node_has_a_place_however_little_may_wait() -> None:
    places = queue_places([*CPU, *GPU], 1)
    assert [place.queue_of for place in places] == ["c0", "g0"]
    assert places[1].gpus == GPU[0].gpus


def test_a_small_cluster_has_several_places_of_each_node() -> None:
    names = ["queue~g0", "queue~g1", "queue~g2", "queue~g0~2", "queue~g1~2", "queue~g2~2"]
    assert [place.name for place in queue_places(GPU, 90)] == names
    assert queue_places([], 100) == []


def test_when_enough_of_our_jobs_wait_nothing_of_it_is_free() -> None:
    (place,) = queue_places(GPU[:1], 1, full=True)
    assert (place.taken_cpus, place.taken_memory_mb) == (place.cpus, place.memory_mb)
    assert place.taken_gpus == place.gpus


def test_what_others_hold_of_a_node_takes_no_room_in_the_queue() -> None:
    held = NodeInventory("n", 8, 16_000, (), taken_cpus=8, taken_memory_mb=16_000)
    assert [place.taken_cpus for place in queue_places([held], 1)] == [0]
