"""The document of the API, /api/v1/openapi.json: errors are problem details there too, and every answer has an example."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from relay.portal.problems import MEDIA_TYPE

JSON = "application/json"
DESCRIPTION = """\
Consents and suppressions in, proofs and traces out. `zegel apikey add` makes keys, one tenant each, with the scopes that \
each operation names. Errors are problem details (RFC 9457)."""


def describe(api: FastAPI) -> None:
    """Let `api` tell what it really answers."""

    def document() -> dict[str, Any]:
        if api.openapi_schema is None:
            made = get_openapi(title=api.title, version=api.version, description=DESCRIPTION, routes=api.routes)
            made["servers"] = [{"url": "/api/v1"}]
            for methods in made["paths"].values():
                for operation in methods.values():
                    _tell_problems(operation["responses"])
            api.openapi_schema = made
        return api.openapi_schema

    api.openapi = document  # type: ignore[method-assign]  # the framework's own way to change the document


def _tell_problems(responses: dict[str, Any]) -> None:
    for status, answer in responses.items():
        if status >= "400" and JSON in answer.get("content", {}):
            answer["content"] = {MEDIA_TYPE: answer["content"][JSON]}
    if "207" in responses:  # where no item of a list is taken, the answer for each comes with 422
        responses["422"]["content"][JSON] = responses["207"]["content"][JSON]
