"""The executors by cluster, as clusters come, change, fail and go."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from queueapi.executors.base import ClusterConfig, Executor, ExecutorUnavailable, Stream
from queueapi.executors.null import NullExecutor
from queueapi.executors.registry import Registry
from tests.executors.contract import make_run
from tests.staging import until

A, B = ClusterConfig("a", "trial"), ClusterConfig("b", "trial")


class Trial(NullExecutor):
    """Its start fails, hangs or succeeds as `outcomes` say, one after the other."""

    def __init__(self, *outcomes: Exception | None) -> None:
        super().__init__()
        self.outcomes = list(outcomes)
        self.closed = False

    async def start(self, changed: Callable[[str], None]) -> None:
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if outcome is not None:
            raise outcome
        await super().start(changed)

    async def close(self) -> None:
        self.closed = True


class Makers:
    def __init__(self) -> None:
        self.made: list[tuple[ClusterConfig, Trial]] = []
        self.outcomes: list[Exception | None] = []

    def __call__(self, config: ClusterConfig) -> Executor:
        executor = Trial(*self.outcomes)
        self.made.append((config, executor))
        return executor


@pytest.fixture
def makers() -> Makers:
    return Makers()


@pytest.fixture
async def registry(makers: Makers, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Registry]:
    monkeypatch.setattr("queueapi.executors.registry._FIRST_RETRY", 0.01)
    registry = Registry({"trial": makers})
    registry.build_in("local", NullExecutor())
    await registry.start(lambda key: None)
    yield registry
    await registry.close()


async def ready(registry: Registry, name: str) -> Executor:
    await until(lambda: name in registry and registry.problem(name) is None, f"{name} is ready")
    return registry[name]


async def test_what_is_new_is_started_and_what_is_gone_is_closed(
    registry: Registry, makers: Makers
) -> None:
    registry.follow({"a": A, "b": B})
    assert set(registry) == {"local", "a", "b"}
    assert len(registry) == 3
    first = await ready(registry, "a")
    assert await first.nodes()
    registry.follow({"a": A})
    assert set(registry) == {"local", "a"}
    assert registry["a"] is first  # untouched
    [gone] = [trial for config, trial in makers.made if config is B]
    await until(lambda: gone.closed)
    with pytest.raises(KeyError):
        registry["b"]


async def test_one_that_changed_is_made_anew(registry: Registry, makers: Makers) -> None:
    registry.follow({"a": A})
    first = await ready(registry, "a")
    registry.follow({"a": replace(A, port=2222)})
    assert await ready(registry, "a") is not first
    await until(lambda: makers.made[0][1].closed)
    assert [config.port for config, _ in makers.made] == [22, 2222]


async def test_what_is_built_in_is_never_replaced(registry: Registry, makers: Makers) -> None:
    own = registry["local"]
    registry.follow({"local": replace(A, name="local")})
    registry.follow({})
    assert registry["local"] is own
    assert makers.made == []


async def test_a_start_that_fails_is_tried_again_and_says_why_meanwhile(
    registry: Registry, makers: Makers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queueapi.executors.registry._FIRST_RETRY", 5.0)
    makers.outcomes = [ExecutorUnavailable("no route to host")]
    registry.follow({"a": A})
    await until(lambda: registry.problem("a") == "no route to host")
    absent = registry["a"]
    run = make_run()
    for call in (
        absent.nodes(),
        absent.submit(run),
        absent.poll([run.key]),
        absent.cancel(run.key),
        absent.suspend(run.key),
        absent.resume(run.key),
        absent.log_size(run.key, Stream.STDOUT),
        absent.read_log(run.key, Stream.STDOUT, 0, 1),
        absent.remove(run.key),
        absent.start(lambda key: None),
    ):
        with pytest.raises(ExecutorUnavailable, match="no route"):
            await call
    assert await absent.check()  # which finds out what is wrong, and so is the executor's own
    assert absent.output_path(run.key) is None
    await absent.close()


async def test_it_serves_once_a_later_start_succeeds(registry: Registry, makers: Makers) -> None:
    makers.outcomes = [ExecutorUnavailable("away"), RuntimeError("a fault"), None]
    registry.follow({"a": A})
    assert await (await ready(registry, "a")).nodes()
    assert len(makers.made) == 1


async def test_what_cannot_be_made_says_why_and_leaves_others_alone(registry: Registry) -> None:
    registry.follow({"a": "its key can't be read", "b": replace(B, kind="vms"), "c": A})
    assert registry.problem("a") == "its key can't be read"
    assert registry.problem("b") == "this server does not know the kind vms"
    [check] = await registry["a"].check()
    assert (check.ok, check.found) == (False, "its key can't be read")
    assert await (await ready(registry, "c")).nodes()


async def test_a_start_that_hangs_holds_up_nobody(
    makers: Makers, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = asyncio.Event()

    class Hanging(Trial):
        async def start(self, changed: Callable[[str], None]) -> None:
            await hangs.wait()

    registry = Registry({"trial": makers, "hanging": lambda config: Hanging()})
    registry.follow({"a": replace(A, kind="hanging"), "b": B})
    await ready(registry, "b")
    assert registry.problem("a") == "it is being connected"
    await registry.close()  # does not wait for it either
