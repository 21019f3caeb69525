"""The OpenAPI document: 3.1 as it is, and 3.0.3 for generators that can't read 3.1."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse

from queueapi.problems import ProblemDocument

DESCRIPTION = """\
Runs a research group's jobs fairly on whatever it has.

Log in, or make an API token, and send it as `Authorization: Bearer TOKEN`. Errors are problem
documents (RFC 9457) with a stable `type`. Repeat a submit safely with an `Idempotency-Key`.
"""
TAGS = [
    {"name": "auth", "description": "Accounts, logins and API tokens"},
    {"name": "users", "description": "Administration of accounts"},
    {"name": "groups", "description": "Research groups: members, quotas, usage"},
    {"name": "jobs", "description": "Submit, watch and control jobs"},
    {"name": "logs", "description": "What jobs wrote"},
    {"name": "queue", "description": "The waiting jobs in the scheduler's order"},
    {"name": "health", "description": "Liveness, readiness, version, metrics"},
]


def describe(app: FastAPI) -> None:
    """Give the application its document, and serve the older form of it too."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = build(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way

    @app.get("/openapi-3.0.json", include_in_schema=False)
    async def older() -> JSONResponse:
        return JSONResponse(as_3_0(document()))


def build(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        summary="Fair job scheduling for research groups, by REST",
        description=DESCRIPTION,
        routes=app.routes,
        tags=TAGS,
        servers=[{"url": "http://localhost:8080", "description": "Where `queueapi serve` listens"}],
        contact={"name": "The queueapi authors", "url": "https://github.com/queueapi/queueapi"},
        license_info={"name": "MIT", "identifier": "MIT"},
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    problem = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem.pop("$defs", {})
    schemas["ProblemDocument"] = problem
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for path in document["paths"].values():
        for operation in path.values():
            _drop_framework_answer(operation)
    return document


def _drop_framework_answer(operation: dict[str, Any]) -> None:
    """FastAPI declares its own 422 where we have not; we never answer it."""
    answer = operation.get("responses", {}).get("422", {})
    if "HTTPValidationError" in str(answer):
        operation["responses"]["422"] = {
            "description": "A value is not acceptable",
            "content": {
                "application/problem+json": {
                    "schema": {"$ref": "#/components/schemas/ProblemDocument"}
                }
            },
        }


def as_3_0(document: dict[str, Any]) -> dict[str, Any]:
    """The same document in OpenAPI 3.0.3."""
    older: dict[str, Any] = _older(document)
    older["openapi"] = "3.0.3"
    older["info"].pop("summary", None)
    older["info"]["license"].pop("identifier", None)
    return older


def _older(node: Any) -> Any:
    if isinstance(node, list):
        return [_older(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: _older(value) for key, value in node.items()}
    choices = node.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices:
        node["nullable"] = True
        rest = [choice for choice in choices if choice != {"type": "null"}]
        del node["anyOf"]
        if len(rest) == 1 and "$ref" not in rest[0]:
            node = rest[0] | node
        else:
            node["allOf" if len(rest) == 1 else "anyOf"] = rest
    for bound in ("Minimum", "Maximum"):
        limit = node.get(f"exclusive{bound}")
        if isinstance(limit, int | float) and not isinstance(limit, bool):
            node[bound.lower()], node[f"exclusive{bound}"] = limit, True
    if "const" in node:
        node["enum"] = [node.pop("const")]
    if isinstance(node.get("examples"), list):
        node["example"] = node.pop("examples")[0]
    node.pop("propertyNames", None)
    return node
