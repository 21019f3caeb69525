"""The document that clients are made from: what the code says, and complete."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV30SpecValidator, OpenAPIV31SpecValidator

from queueapi.config import Settings
from queueapi.main import create_app
from queueapi.openapi import as_3_0, operations
from tests.conftest import SECRET

FILE = Path(__file__).parent.parent / "openapi.json"
# Whoever has no account yet needs these; monitoring needs the others.
PUBLIC = {"register", "login", "refresh_login", "get_liveness", "get_readiness", "get_version"}
# What any operation may answer that reads a token, and one that needs none but reads a body.
WITH_TOKEN = {"400", "401", "403", "413", "422", "429", "503"}
ANONYMOUS = {"400", "413", "422", "429", "503"}
# Types that these languages, or a client's own runtime, have already: a generator then takes a
# component of the same name for that type, or writes a file that shadows it.
TAKEN = {
    *("Array", "ArrayBuffer", "BigInt", "Blob", "Boolean", "Date", "Error", "Function", "Map"),
    *("Number", "Object", "Promise", "Proxy", "ReadonlyArray", "Record", "RegExp", "Set", "String"),
    *("Symbol", "Partial", "Pick", "Required", "Readonly", "Iterator", "WeakMap", "WeakSet"),
    *("Byte", "Character", "Class", "Double", "Enum", "Exception", "File", "Float", "Integer"),
    *("Iterable", "List", "Locale", "Long", "Module", "Override", "Package", "Process", "Short"),
    *("System", "Thread", "Throwable", "URI", "UUID", "Void", "OffsetDateTime", "Optional"),
    *("Any", "AnyOf", "Annotated", "BaseModel", "Bytes", "Callable", "ClassVar", "Dict", "Field"),
    *("Literal", "Self", "StrictBool", "StrictInt", "StrictStr", "Tuple", "Type", "Union"),
    *("Bool", "Complex", "Int", "Rune", "Struct", "Interface", "Chan", "Time", "Context", "Func"),
    *("ApiClient", "ApiError", "ApiException", "ApiResponse", "BaseAPI", "Configuration"),
    *("FetchError", "RequestContext", "RequiredError", "Response", "ResponseError", "JSON"),
}
PROBLEM = {"$ref": "#/components/schemas/ProblemDocument"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """No database is touched before the application starts."""
    settings = Settings(
        _env_file=None, database_url="postgresql://nobody@localhost/nothing", jwt_secret=SECRET
    )
    return create_app(settings).openapi()


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for item in node:
            yield from references(item)


def test_the_file_in_the_repository_is_what_the_code_says(document: dict[str, Any]) -> None:
    written = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    assert FILE.read_text(encoding="utf-8") == written, "run: make openapi"


def test_it_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(document).validate()


def test_its_older_form_is_valid_openapi_3_0_3(document: dict[str, Any]) -> None:
    older = as_3_0(document)
    assert older["openapi"] == "3.0.3"
    OpenAPIV30SpecValidator(older).validate()


def test_the_older_form_has_the_same_operations_and_no_words_of_3_1(
    document: dict[str, Any],
) -> None:
    older = as_3_0(document)
    assert [o["operationId"] for o in operations(older)] == [
        o["operationId"] for o in operations(document)
    ]
    text = json.dumps(older)
    for word in ('"null"', '"const"', '"examples"', '"propertyNames"', '"contentSchema"'):
        assert word not in text


def test_making_the_older_form_leaves_the_newer_one_as_it_is(document: dict[str, Any]) -> None:
    before = json.dumps(document)
    as_3_0(document)
    assert json.dumps(document) == before


def test_all_that_it_refers_to_is_in_it(document: dict[str, Any]) -> None:
    for reference in references(document):
        node = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def test_each_example_of_a_component_is_what_the_component_asks_for(
    document: dict[str, Any],
) -> None:
    components = {"components": document["components"]}
    for name, schema in document["components"]["schemas"].items():
        check = OAS31Validator({"$ref": f"#/components/schemas/{name}", **components})
        for example in schema.get("examples", []):
            check.validate(example)


def test_no_component_is_named_like_a_type_of_the_languages_that_clients_are_made_in(
    document: dict[str, Any],
) -> None:
    taken = {name.lower() for name in TAKEN}
    assert [name for name in document["components"]["schemas"] if name.lower() in taken] == []


def test_each_operation_has_an_id_of_its_own_in_snake_case(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for operation in operations(document)]
    assert len(ids) == len(set(ids)) >= 40
    assert [name for name in ids if not re.fullmatch(r"[a-z]+(_[a-z]+)*", name)] == []


def test_each_operation_is_described_and_has_one_tag(document: dict[str, Any]) -> None:
    known = {tag["name"] for tag in document["tags"]}
    for operation in operations(document):
        assert operation["summary"] and operation["description"], operation["operationId"]
        assert len(operation["tags"]) == 1 and set(operation["tags"]) <= known
        for parameter in operation.get("parameters", []):
            assert parameter["description"], (operation["operationId"], parameter["name"])


def test_all_but_the_public_operations_need_a_token(document: dict[str, Any]) -> None:
    needs = {o["operationId"]: o.get("security") for o in operations(document)}
    assert needs.pop("get_metrics") == [{}, {"metrics": []}]
    assert {name for name, security in needs.items() if security is None} == PUBLIC
    assert all(security == [{"bearer": []}] for security in needs.values() if security)


def test_each_operation_declares_the_problems_that_it_may_answer(document: dict[str, Any]) -> None:
    for operation in operations(document):
        declared = operation["responses"].keys()
        if operation.get("security") == [{"bearer": []}]:
            assert declared >= WITH_TOKEN, operation["operationId"]
        elif "requestBody" in operation:
            assert declared >= ANONYMOUS, operation["operationId"]
        assert ("415" in declared) == ("requestBody" in operation), operation["operationId"]


def test_each_declared_error_is_a_problem_document(document: dict[str, Any]) -> None:
    for operation in operations(document):
        for status, response in operation["responses"].items():
            if status >= "400":
                content = response["content"]
                assert content == {"application/problem+json": {"schema": PROBLEM}}, (
                    operation["operationId"],
                    status,
                )


def test_no_body_that_clients_send_takes_a_field_that_is_not_named(
    document: dict[str, Any],
) -> None:
    for operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {})
        if "application/json" in content:
            name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
            assert document["components"]["schemas"][name]["additionalProperties"] is False, name


async def test_both_forms_are_served(client: httpx.AsyncClient, document: dict[str, Any]) -> None:
    assert (await client.get("/openapi.json")).json() == document
    assert (await client.get("/openapi-3.0.json")).json() == as_3_0(document)
