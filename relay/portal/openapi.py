"""The document of the API, /api/v1/openapi.json: errors are problem details there too, and every answer has an example."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from relay.portal.api_models import Problem
from relay.portal.problems import MEDIA_TYPE, TITLES

JSON = "application/json"
_SCHEMAS = "#/components/schemas/"
DESCRIPTION = """\
Consents and suppressions in, proofs and traces out. `zegel apikey add` makes keys, one tenant each, with the scopes that \
each operation names. Errors are problem details (RFC 9457)."""


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What an operation may answer besides, for its `responses`: problem details.

    A reference, since a model that is named here is built again for each status of each operation.
    """
    content = {MEDIA_TYPE: {"schema": {"$ref": f"{_SCHEMAS}{Problem.__name__}"}}}
    return {status: {"description": TITLES[status], "content": content} for status in statuses}


def describe(api: FastAPI) -> None:
    """Let `api` tell what it really answers."""

    def document() -> dict[str, Any]:
        if api.openapi_schema is None:
            made = get_openapi(title=api.title, version=api.version, description=DESCRIPTION, routes=api.routes)
            made["servers"] = [{"url": "/api/v1"}]
            made["components"]["schemas"].update(_problem())
            for methods in made["paths"].values():
                for operation in methods.values():
                    _tell_each(operation["responses"])
            api.openapi_schema = made
        return api.openapi_schema

    api.openapi = document  # type: ignore[method-assign]  # the framework's own way to change the document


def _problem() -> dict[str, Any]:
    """The schema of a problem, and of what it is made of."""
    schema = Problem.model_json_schema(mode="serialization", ref_template=f"{_SCHEMAS}{{model}}")
    return {**schema.pop("$defs", {}), Problem.__name__: schema}


def _tell_each(responses: dict[str, Any]) -> None:
    """Where no item of a list is taken, the answer for each comes with 422."""
    if "207" in responses:
        problem = responses["422"]["content"]
        responses["422"]["content"] = problem | {JSON: responses["207"]["content"][JSON]}
