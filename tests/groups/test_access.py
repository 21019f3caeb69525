"""Every group route for every role: who is let in, and to whom the group isn't there."""

from dataclasses import dataclass
from typing import Any

import pytest

from queueapi.auth.principal import Scope
from tests.auth.people import Person, World, problem

READ, WRITE = Scope.GROUPS_READ, Scope.GROUPS_WRITE
GROUP = "/api/groups/{group}"

ROLES = ("stranger", "manager elsewhere", "waiting", "member", "manager", "administrator")
# method, path, body, the scope that a token needs, and the answers to ROLES
ROUTES: list[tuple[str, str, Any, Scope, tuple[int, ...]]] = [
    ("GET", "/api/groups", None, READ, (200, 200, 200, 200, 200, 200)),
    ("GET", "/api/groups?view=all", None, READ, (403, 403, 403, 403, 403, 200)),
    ("POST", "/api/groups", {"name": "chemistry"}, Scope.ADMIN, (403, 403, 403, 403, 403, 201)),
    ("GET", GROUP, None, READ, (404, 404, 404, 200, 200, 200)),
    ("PATCH", GROUP, {"join_policy": "open"}, WRITE, (404, 404, 404, 403, 200, 200)),
    ("PATCH", GROUP, {"max_running": 3}, WRITE, (404, 404, 404, 403, 403, 200)),
    ("DELETE", GROUP, None, Scope.ADMIN, (403, 403, 403, 403, 403, 204)),
    ("GET", GROUP + "/usage", None, READ, (404, 404, 404, 200, 200, 200)),
    ("POST", GROUP + "/join", None, WRITE, (200, 200, 200, 200, 200, 200)),
    ("GET", GROUP + "/members", None, READ, (404, 404, 404, 200, 200, 200)),
    ("PUT", GROUP + "/members/{waiting}", {}, WRITE, (404, 404, 404, 403, 200, 200)),
    ("DELETE", GROUP + "/members/{waiting}", None, WRITE, (404, 404, 204, 403, 204, 204)),
    (
        "PUT",
        "/api/auth/me/default-group",
        {"group_id": "{group}"},
        WRITE,
        (404, 404, 404, 200, 200, 404),
    ),
    ("GET", "/api/auth/me", None, READ, (200, 200, 200, 200, 200, 200)),
]


@dataclass
class Cast:
    world: World
    group: int
    people: list[Person]  # in the order of ROLES

    @property
    def waiting(self) -> Person:
        return self.people[2]

    async def ask(self, route: int, who: Person | dict[str, str] | None) -> Any:
        method, path, body, *_ = ROUTES[route]
        path = path.format(group=self.group, waiting=self.waiting.id)
        if body and "group_id" in body:
            body = {"group_id": self.group}
        return await self.world.ask(method, path, who, json=body)


async def cast(world: World, name: str = "physics") -> Cast:
    group, elsewhere = await world.group(name), await world.group(f"not {name}")
    people = [await world.person() for _ in range(5)] + [await world.person(admin=True)]
    _, other, waiting, member, manager, _ = people
    await world.member(other, elsewhere, manager=True)
    await world.member(waiting, group, approved=False)
    await world.member(member, group)
    await world.member(manager, group, manager=True)
    return Cast(world, group, people)


@pytest.mark.parametrize("route", range(len(ROUTES)), ids=lambda n: " ".join(ROUTES[n][:2]))
async def test_every_route_for_every_role(world: World, route: int) -> None:
    for role, expected in enumerate(ROUTES[route][4]):
        made = await cast(world, f"group {role}")
        response = await made.ask(route, made.people[role])
        assert response.status_code == expected, f"{ROLES[role]}: {response.text}"
        if expected >= 400:
            problem(response, expected)


@pytest.mark.parametrize("route", range(len(ROUTES)), ids=lambda n: " ".join(ROUTES[n][:2]))
async def test_every_route_with_no_token_and_with_limited_ones(world: World, route: int) -> None:
    made = await cast(world)
    problem(await made.ask(route, None), 401)
    scope, admin = ROUTES[route][3], made.people[5]
    without = await world.api_token(admin, *(set(Scope) - {scope}))
    if ROUTES[route][1] != "/api/auth/me":  # anyone may ask who they are
        problem(await made.ask(route, without), 403)
    # An administrator's token that lacks `admin` is no administrator.
    plain = await world.api_token(admin, READ, WRITE)
    response = await made.ask(route, plain)
    assert response.status_code == ROUTES[route][4][0], response.text
    full = await world.api_token(admin, scope, Scope.ADMIN)
    response = await made.ask(route, full)
    assert response.status_code == ROUTES[route][4][5], response.text
