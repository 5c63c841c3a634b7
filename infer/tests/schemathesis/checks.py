"""What the service promises beyond its OpenAPI document, held against every answer."""

import copy
import json
import zlib
from pathlib import Path

import schemathesis

EXAMPLE = Path(__file__).resolve().parent.parent.parent / "examples/request.json"

PROBLEM = "urn:problem-type:infer:"
# Statuses that a wrong value gets, which the problem document must place.
WRONG_VALUE = {400, 401, 408, 413, 415, 422}


def problem(response):
    """The problem document of a refusal, or None."""
    if response.headers.get("content-type") != ["application/problem+json"]:
        return None
    return response.json()


def whole(value):
    """`value` with 1 in place of 1.0: JSON Schema takes both for integers, the service only 1."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [whole(item) for item in value]
    if isinstance(value, dict):
        return {name: whole(item) for name, item in value.items()}
    return value


def grafted(body):
    """The example with one part of `body`: closer to what the world allows than chance comes."""
    if not (isinstance(body, dict) and isinstance(body.get("state"), dict)):
        return body
    dice = zlib.crc32(json.dumps(body, sort_keys=True).encode())
    example = json.loads(EXAMPLE.read_text())
    parts = sorted(example["state"].keys() & body["state"].keys())
    if dice % 4 == 0 or not parts:
        return body
    part = parts[dice // 4 % len(parts)]
    example["state"][part] = copy.deepcopy(body["state"][part])
    return example


@schemathesis.hook
def before_call(ctx, case, kwargs):
    """Sends valid messages in a form that reaches the depths of the service."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if case.operation.label == "POST /v1/decisions":
        case.body = grafted(whole(case.body))


@schemathesis.check
def refusals_are_problem_documents(ctx, response, case):
    """A refusal is a problem document whose status is that of the answer."""
    if response.status_code < 400:
        return
    document = problem(response)
    assert document is not None, f"{response.status_code} is no problem document"
    assert document["status"] == response.status_code, document
    assert document["type"].startswith(PROBLEM), document
    assert document["title"] and document["detail"], document


@schemathesis.check
def refused_values_are_named(ctx, response, case):
    """Whoever sends a wrong value is told which."""
    if response.status_code in WRONG_VALUE:
        document = problem(response)
        assert document is not None and document.get("field"), f"no field in {document}"


@schemathesis.check
def the_description_and_the_parser_agree(ctx, response, case):
    """What the document allows is never refused as not of the schema."""
    meta = case.meta
    if meta is None or not meta.generation.mode.is_positive or response.status_code != 422:
        return
    document = problem(response)
    assert document is not None and document["type"] != PROBLEM + "invalid-message", document


@schemathesis.check
def requests_have_identities(ctx, response, case):
    """Every answer names the request, so that its log lines and traces can be found."""
    (identity,) = response.headers.get("x-request-id", [""])
    assert 1 <= len(identity) <= 64, f"x-request-id: {identity!r}"
