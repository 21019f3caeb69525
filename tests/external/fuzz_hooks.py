"""What schemathesis must know of this API that no OpenAPI document can say."""

import os
from typing import Any

import schemathesis
from schemathesis import Case, HookContext, Response

OWN_ID = int(os.environ["FUZZ_OWN_ID"])
NOBODY = 2**40


@schemathesis.hook
def before_load_schema(context: HookContext, raw_schema: dict[str, Any]) -> None:
    """A pattern that repeats a million times is beyond its generator of texts, which then makes
    no job at all; without the pattern, and with `allow-x00` off, it makes the same texts."""
    raw_schema["components"]["schemas"]["JobSubmission"]["properties"]["script"].pop("pattern")


@schemathesis.hook
def filter_failure(context: HookContext, failure: Any, case: Case, response: Response) -> bool:
    """False for a refusal that is right although the request is as the document has it: a
    cursor is opaque, and so any text that is none of ours; a key came with another body before.
    """
    if type(failure).__name__ != "RejectedPositiveData":
        return True
    problem = response.json()
    if problem["type"] == "/problems/idempotency-key-reused":
        return False
    return [error["pointer"] for error in problem.get("errors", [])] != ["cursor"]


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """The administrator who asks is the one account that must not be demoted or deleted."""
    operation = case.operation.definition.raw.get("operationId")
    own = str(case.path_parameters.get("user_id")) == str(OWN_ID)
    if operation in ("change_user", "delete_user") and own:
        case.path_parameters["user_id"] = NOBODY
