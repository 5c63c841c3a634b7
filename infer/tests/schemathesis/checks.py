"""What the service promises beyond its OpenAPI document, held against every answer."""

import copy
import json
import os
import zlib
from pathlib import Path

import schemathesis

EXAMPLE = Path(__file__).resolve().parent.parent.parent / "examples/request.json"

# The decision that `run.py` asked for, and the time of the telemetry in the example.
DECISION = os.environ["SCHEMATHESIS_DECISION"]
FLEET_NS = 43_600_000_000

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
    number = zlib.crc32(json.dumps(body, sort_keys=True).encode())
    example = json.loads(EXAMPLE.read_text())
    parts = sorted(example["state"].keys() & body["state"].keys())
    if number % 4 == 0 or not parts:
        return body
    part = parts[number // 4 % len(parts)]
    state = example["state"]
    if number % 4 == 1:
        # The example's state whole: what else there is in the message is reached.
        body = {name: value for name, value in body.items() if name != "world"}
        if "alternatives" in body or "service_decision" in body:
            body |= {"alternatives": [], "service_decision": True}
        return body | {"state": state}
    state[part] = copy.deepcopy(body["state"][part])
    return body | {"state": state}


def bounded(body):
    """A question of what if that is small, and a message whose time is that of the fleet."""
    if not isinstance(body, dict):
        return body
    for name, most in [("futures", 4), ("horizon_intervals", 3)]:
        if name in body:
            body[name] = min(body[name], most)
    if "time_budget_ms" in body:
        body["time_budget_ms"] = 20_000
    if "now_ns" in body and "state" not in body:
        body["now_ns"] = FLEET_NS
    if "deltas" in body and zlib.crc32(json.dumps(body, sort_keys=True).encode()) % 2:
        # What happened by chance hardly ever fits the fleet; a host may be measured at any time.
        body["deltas"] = [{"kind": "sample", "host": k % 3, "utilization": 0.5} for k, _ in enumerate(body["deltas"])]
        body.pop("world", None)
    for outcome in body.get("outcomes", []):
        outcome["decision"] = DECISION
    return body


def dice(case, sides):
    """The same number for the same case."""
    text = json.dumps([case.operation.label, case.path_parameters, case.query], sort_keys=True)
    return zlib.crc32(text.encode()) % sides


@schemathesis.hook
def before_call(ctx, case, kwargs):
    """Sends valid messages in a form that reaches the depths of the service."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if isinstance(case.body, dict):
        case.body = bounded(grafted(whole(case.body)))
    if "id" in case.path_parameters and dice(case, 2):
        case.path_parameters["id"] = DECISION
    if case.operation.label == "POST /v1/models/{key}":
        policy = ("least-loaded", "greedy", "random")[dice(case, 3)]
        action = str(case.path_parameters["key"]).rpartition(":")[2]
        action = action if action in ("activate", "shadow") else "shadow"
        case.path_parameters["key"] = f"{policy}:{action}"


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
