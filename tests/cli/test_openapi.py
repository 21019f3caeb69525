"""`queueapi openapi` needs nothing, and writes what the server serves."""

import json
from collections.abc import Callable

import httpx

from tests.cli.server import Cli, Server


def test_document(server: Server, new_cli: Callable[..., Cli]) -> None:
    cli = new_cli(PORT="not a port", JWT_SECRET="short")
    text = cli.run("openapi").stdout
    document = json.loads(text)
    assert text == json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    assert document == httpx.get(f"{server.url}/openapi.json").json()
    cli.run("openapi", "--version", "3.0", "--output", "older.json")
    older = json.loads((cli.home / "older.json").read_text())
    assert older == httpx.get(f"{server.url}/openapi-3.0.json").json()
    assert "No such file" in cli.run("openapi", "-o", "no/where.json", expect=1).stderr
