"""The OpenAPI document: 3.1 as it is, and 3.0.3 for generators that can't read 3.1.

FastAPI derives the document from the routes. What it can't know is added here: the problem
document, the headers of the answers, and the links from an answer to the calls that follow.
"""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse

from queueapi.errors import UnsupportedMediaType
from queueapi.jobs.schemas import LogChunk
from queueapi.problems import MEDIA_TYPE, ProblemDocument, responses

Node = dict[str, Any]

DESCRIPTION = """\
Runs a research group's jobs fairly on whatever it has.

Log in, or make an API token, and send it as `Authorization: Bearer TOKEN`. Errors are problem
documents (RFC 9457) with a stable `type`. Repeat a submit safely with an `Idempotency-Key`.
"""
TAGS = [
    {"name": "auth", "description": "Accounts, logins and API tokens"},
    {"name": "clusters", "description": "The places that run jobs, and who may use them"},
    {"name": "doctor", "description": "Checks of what must always hold, and repairs"},
    {"name": "files", "description": "What jobs left in their folders"},
    {"name": "folders", "description": "Code and small files that jobs bring with them"},
    {"name": "groups", "description": "Research groups: members, quotas, usage"},
    {"name": "health", "description": "Liveness, readiness, version, metrics"},
    {"name": "hosts", "description": "The machines that servers run on"},
    {"name": "jobs", "description": "Submit, watch and control jobs"},
    {"name": "logs", "description": "What jobs wrote"},
    {"name": "nodes", "description": "What nodes have, what is free on them, and their state"},
    {"name": "queue", "description": "The waiting jobs in the scheduler's order"},
    {"name": "queues", "description": "Queues: their limits, and their administration"},
    {"name": "reservations", "description": "Nodes kept free, for maintenance or for people"},
    {"name": "users", "description": "Administration of accounts"},
    {"name": "workflows", "description": "Graphs of jobs that wait for one another"},
]
NULL = {"type": "null"}
PROBLEM = {"$ref": "#/components/schemas/ProblemDocument"}
METRICS_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "description": "QUEUEAPI_METRICS_TOKEN, where the operator has set one",
}

LOG_EVENT = {
    "type": "object",
    "description": "One server-sent event of a live log; the one named `end` is the last",
    "properties": {
        "id": {"type": "string", "description": "The offset of the byte after the chunk"},
        "event": {"type": "string", "enum": ["log", "end"]},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {
                "anyOf": [
                    {"$ref": "#/components/schemas/LogChunk"},
                    {"$ref": "#/components/schemas/LogEnd"},
                ]
            },
        },
    },
    "required": ["event", "data"],
}
LOG_END = {
    "type": "object",
    "description": "How the job stands at the end of its log",
    "properties": {
        "status": {"$ref": "#/components/schemas/JobState"},
        "exit_code": {"anyOf": [{"type": "integer"}, NULL]},
    },
    "required": ["status", "exit_code"],
}

TEXT, WHOLE = {"type": "string"}, {"type": "integer", "minimum": 0}
HEADERS: dict[str, tuple[str, Node]] = {
    "Accept-Ranges": ("A Range is understood", TEXT),
    "Content-Location": (
        "Where more is known of it",
        {"type": "string", "format": "uri-reference"},
    ),
    "Content-Range": ("Which bytes these are, and of how many", TEXT),
    "ETag": ("The job's version, for If-None-Match and If-Match", TEXT),
    "Idempotency-Replayed": ("true: the key came before, and this is that job", TEXT),
    "Location": ("Where the new thing is", {"type": "string", "format": "uri-reference"}),
    "RateLimit": ("The limit that is used up, and the seconds until it is not", TEXT),
    "RateLimit-Policy": ("The limit: how many in how many seconds", TEXT),
    "Retry-After": ("Seconds to wait", WHOLE),
    "WWW-Authenticate": ("How to authenticate", TEXT),
    "X-Log-Offset": ("Where in the log the first byte of the answer is", WHOLE),
    "X-Log-Size": ("Bytes in the log at this moment", WHOLE),
}
IDS = {"group_id": "The group's id", "token_id": "The token's id", "user_id": "The user's id"}
# By status, on problem documents.
PROBLEM_HEADERS = {
    "401": ["WWW-Authenticate"],
    "416": ["Content-Range"],
    "429": ["RateLimit", "RateLimit-Policy", "Retry-After"],
    "503": ["Retry-After"],
}
# By operation and status.
ANSWER_HEADERS = {
    "register": {"201": ["Location"]},
    "create_group": {"201": ["Location"]},
    "create_queue": {"201": ["Location"]},
    "upload_folder": {"200": ["Location"], "201": ["Location"]},
    "create_reservation": {"201": ["Location"]},
    "submit_job": {"201": ["ETag", "Location", "Idempotency-Replayed"]},
    "submit_jobs": {"201": ["Idempotency-Replayed"]},
    "submit_workflow": {"201": ["Location", "Idempotency-Replayed"]},
    "get_job": {"200": ["ETag"], "304": ["ETag"]},
    "cancel_job": {"200": ["ETag"], "202": ["ETag"]},
    "hold_job": {"200": ["ETag"]},
    "release_job": {"200": ["ETag"]},
    "requeue_job": {"200": ["ETag"]},
    "suspend_job": {"200": ["ETag"], "202": ["ETag"]},
    "resume_job": {"202": ["ETag"]},
    "change_job_priority": {"200": ["ETag"]},
    "get_task": {"200": ["Content-Location", "ETag"]},
    "get_job_logs": {
        "200": ["Accept-Ranges", "X-Log-Offset", "X-Log-Size"],
        "206": ["Accept-Ranges", "Content-Range", "X-Log-Offset", "X-Log-Size"],
    },
}
# operation, status → (parameter, where in the answer it is, operations that take it)
LINKS: dict[tuple[str, str], tuple[str, str, str]] = {
    ("submit_job", "201"): (
        "job_id",
        "$response.body#/id",
        "get_job get_job_logs list_job_events hold_job release_job change_job_priority "
        "suspend_job resume_job cancel_job requeue_job list_tasks",
    ),
    ("submit_workflow", "201"): (
        "workflow_id",
        "$response.body#/id",
        "get_workflow cancel_workflow",
    ),
    ("list_workflows", "200"): ("cursor", "$response.body#/next", "list_workflows"),
    ("list_tasks", "200"): ("cursor", "$response.body#/next", "list_tasks"),
    ("list_jobs", "200"): ("cursor", "$response.body#/next", "list_jobs"),
    ("get_queue", "200"): ("cursor", "$response.body#/next", "get_queue"),
    ("list_nodes", "200"): ("cursor", "$response.body#/next", "list_nodes"),
    ("list_folders", "200"): ("cursor", "$response.body#/next", "list_folders"),
    ("list_queues", "200"): ("cursor", "$response.body#/next", "list_queues"),
    ("list_reservations", "200"): ("cursor", "$response.body#/next", "list_reservations"),
    ("create_reservation", "201"): (
        "name",
        "$response.body#/name",
        "get_reservation change_reservation delete_reservation",
    ),
    ("list_users", "200"): ("cursor", "$response.body#/next", "list_users"),
    ("list_groups", "200"): ("cursor", "$response.body#/next", "list_groups"),
    ("list_members", "200"): ("cursor", "$response.body#/next", "list_members"),
    ("create_api_token", "201"): ("token_id", "$response.body#/id", "revoke_api_token"),
    ("upload_folder", "201"): ("folder_id", "$response.body#/id", "get_folder delete_folder"),
    ("create_queue", "201"): (
        "queue_name",
        "$response.body#/name",
        "get_queue_limits change_queue delete_queue",
    ),
    ("create_group", "201"): (
        "group_id",
        "$response.body#/id",
        "get_group change_group delete_group get_group_usage join_group list_members",
    ),
}


def describe(app: FastAPI) -> None:
    """Give the application its document, and serve the older form of it too."""

    def document() -> Node:
        if app.openapi_schema is None:
            app.openapi_schema = build(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way

    @app.get("/openapi-3.0.json", include_in_schema=False)
    async def older() -> JSONResponse:
        return JSONResponse(as_3_0(document()))


def build(app: FastAPI) -> Node:
    document = get_openapi(
        title=app.title,
        version=app.version,
        summary="Fair job scheduling for research groups, by REST",
        description=DESCRIPTION,
        routes=app.routes,
        tags=TAGS,
        servers=[{"url": "http://localhost:8080", "description": "Where `queueapi serve` listens"}],
        contact={"name": "The queueapi authors"},
        license_info={"name": "MIT", "identifier": "MIT"},
    )
    _complete_components(document["components"])
    for operation in operations(document):
        _drop_framework_answer(operation)
        _add_media_type_answer(operation)
        _correct_parameters(operation)
        _add_headers(operation)
        _add_links(operation)
        if operation["operationId"] == "get_metrics":
            operation["security"] = [{}, {"metrics": []}]
    for schema in document["components"]["schemas"].values():
        _correct_schema(schema)
    return document


def operations(document: Node) -> Iterator[Node]:
    for path in document["paths"].values():
        yield from path.values()


def _complete_components(components: Node) -> None:
    schemas = components["schemas"]
    problem = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem.pop("$defs", {})
    schemas["ProblemDocument"] = problem
    schemas["LogChunk"] = LogChunk.model_json_schema()
    schemas |= {"LogEnd": LOG_END, "LogEvent": LOG_EVENT}
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    components["headers"] = {
        name: {"description": description, "schema": schema}
        for name, (description, schema) in HEADERS.items()
    }
    components["securitySchemes"]["metrics"] = METRICS_SCHEME


def _drop_framework_answer(operation: Node) -> None:
    """FastAPI declares its own 422 where we have not; we never answer it."""
    if "HTTPValidationError" in str(operation["responses"].get("422")):
        operation["responses"]["422"] = {
            "description": "A value is not acceptable",
            "content": {MEDIA_TYPE: {"schema": PROBLEM}},
        }


def _add_media_type_answer(operation: Node) -> None:
    """What `queueapi.routing` answers wherever there is a body to read."""
    if "requestBody" in operation:
        [response] = responses(UnsupportedMediaType).values()
        operation["responses"] = dict(sorted({**operation["responses"], "415": response}.items()))


def _correct_parameters(operation: Node) -> None:
    """A parameter is absent or has a value: no text in a URL or a header stands for null."""
    for parameter in operation.get("parameters", []):
        schema = parameter["schema"]
        choices = [choice for choice in schema.pop("anyOf", []) if choice != NULL]
        if len(choices) == 1:
            schema |= choices[0]
        elif choices:
            schema["anyOf"] = choices
        if schema.get("default", 0) is None:
            del schema["default"]
        schema.pop("description", None)  # the parameter has it
        if parameter["name"] in IDS:
            parameter["description"] = IDS[parameter["name"]]
        schema.pop("title", None)
        _correct_schema(schema)
        if "$ref" in schema:  # generators give up the type where a default stands beside it
            schema.pop("default", None)
        if parameter["in"] == "header":
            words = parameter["name"].split("-")
            parameter["name"] = "-".join(word.capitalize() for word in words)


def _add_headers(operation: Node) -> None:
    answers = ANSWER_HEADERS.get(operation["operationId"], {})
    for status, response in operation["responses"].items():
        is_problem = MEDIA_TYPE in response.get("content", {})
        names = (PROBLEM_HEADERS if is_problem else answers).get(status, [])
        if names:
            response["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _add_links(operation: Node) -> None:
    for (operation_id, status), (parameter, place, targets) in LINKS.items():
        if operation["operationId"] == operation_id:
            operation["responses"][status]["links"] = {
                target: {"operationId": target, "parameters": {parameter: place}}
                for target in targets.split()
            }


def _correct_schema(schema: Node) -> None:
    """Whole bounds on whole numbers, and no titles that only repeat a property's name."""
    if schema.get("type") == "integer":
        for bound in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
            if bound in schema:
                schema[bound] = int(schema[bound])
    parts = [*schema.get("anyOf", []), *schema.get("properties", {}).values()]
    parts += [schema[key] for key in ("items", "additionalProperties") if key in schema]
    for part in parts:
        if isinstance(part, dict):
            part.pop("title", None)
            _correct_schema(part)


def as_3_0(document: Node) -> Node:
    """The same document in OpenAPI 3.0.3."""
    older: Node = _older(document)
    older["openapi"] = "3.0.3"
    older["info"].pop("summary", None)
    older["info"]["license"].pop("identifier", None)
    for name in ("LogChunk", "LogEnd"):  # 3.0 can't say what a text holds
        older["components"]["schemas"].pop(name)
    _type_nullables(older, older["components"]["schemas"])
    return older


def _type_nullables(node: Any, schemas: Node) -> None:
    """3.0 lets `nullable` stand only beside a `type`; that of a reference is its target's."""
    if isinstance(node, list):
        for item in node:
            _type_nullables(item, schemas)
    elif isinstance(node, dict):
        for item in node.values():
            _type_nullables(item, schemas)
        if node.get("nullable") is True and "type" not in node:
            name = node["allOf"][0]["$ref"].rpartition("/")[2]
            node["type"] = schemas[name]["type"]


def _older(node: Any) -> Any:
    if isinstance(node, list):
        return [_older(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: _older(value) for key, value in node.items()}
    choices = node.get("anyOf")
    if isinstance(choices, list) and NULL in choices:
        rest = [choice for choice in choices if choice != NULL]
        del node["anyOf"]
        if len(rest) > 1:
            node["anyOf"] = [rest[0] | {"nullable": True}, *rest[1:]]
        elif "$ref" in rest[0]:
            node |= {"allOf": rest, "nullable": True}
        else:
            node = rest[0] | node | {"nullable": True}
    for bound in ("Minimum", "Maximum"):
        limit = node.get(f"exclusive{bound}")
        if isinstance(limit, int | float) and not isinstance(limit, bool):
            node[bound.lower()], node[f"exclusive{bound}"] = limit, True
    if "const" in node:
        node["enum"] = [node.pop("const")]
    if isinstance(node.get("examples"), list):
        node["example"] = node.pop("examples")[0]
    if "$ref" in node and len(node) > 1:  # 3.0 has nothing beside a $ref
        node["allOf"] = [{"$ref": node.pop("$ref")}]
    for keyword in ("propertyNames", "contentMediaType", "contentSchema"):
        node.pop(keyword, None)
    return node
