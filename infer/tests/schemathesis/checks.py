"""What the service promises beyond its OpenAPI document, held against every answer."""

import re

import schemathesis

PROBLEM = "urn:problem-type:infer:"
# Statuses that a wrong value gets, which the problem document must place.
WRONG_VALUE = {400, 422}
FIELD = re.compile(r"^[A-Za-z0-9_\[\].?-]+$|^body$")


def problem(response):
    """The problem document of a refusal, or None."""
    if response.headers.get("content-type") != ["application/problem+json"]:
        return None
    return response.json()


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
