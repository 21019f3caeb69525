"""Jobs that resume where they were suspended: on the GPUs that their processes are bound to."""

from __future__ import annotations

from queueapi.scheduling import Backfill, Config, Order, Placement
from tests.scheduling.scenario import Scenario

T4S = ("t4", "t4")


def test_its_reservation_is_on_its_own_gpu_and_when_that_is_free(scenario: Scenario) -> None:
    scenario.node("n1", gpus=T4S).running(9, gpus=(1,), ends_in=2)
    place = Placement.on("local", "n1", (1,))
    scenario.job(1, gpus=1, resume_on=place).expect_reservations(j1=2)
    reservation = scenario.plan().reservation
    assert reservation is not None
    assert reservation.placement == place


def test_who_overtakes_it_leaves_it_its_own_gpu(scenario: Scenario) -> None:
    scenario.node("n1", gpus=T4S).running(9, gpus=(1,), ends_in=2)
    scenario.job(1, gpus=1, base=9, resume_on=Placement.on("local", "n1", (1,)))
    scenario.job(2, gpus=1, hours=99, user=2).expect_placed(2, "n1", (0,))


def test_it_takes_no_gpu_that_is_kept_for_another(scenario: Scenario) -> None:
    scenario.configured(Config(backfill=Backfill.CONSERVATIVE, order=Order.ARRIVAL))
    scenario.node("n1", cpus=8, gpus=T4S).running(9, cpus=8, ends_in=1)
    scenario.job(1, cpus=8, gpus=1, waited=2).job(
        2, cpus=1, gpus=1, hours=3, waited=1, resume_on=Placement.on("local", "n1", (0,))
    )
    scenario.expect_reservations(j1=1, j2=2)


def test_two_that_want_the_same_gpu_come_one_after_the_other(scenario: Scenario) -> None:
    scenario.configured(Config(reservations=2)).node("n1", gpus=T4S)
    place = Placement.on("local", "n1", (1,))
    scenario.running(9, gpus=(1,), ends_in=2)
    scenario.job(1, gpus=1, base=9, resume_on=place).job(2, gpus=1, resume_on=place)
    scenario.expect_reservations(j1=2, j2=3)
