"""The document of the API is whole: every answer has a form and an example that fits it, every error is problem details."""

from __future__ import annotations

from typing import Any

import httpx
import jsonschema

from relay.portal.problems import MEDIA_TYPE
from tests.harness.openapi import operations, sample

ALWAYS = {"400", "401", "403", "409", "413", "415", "422", "429", "503"}


def held_against(document: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(value)


async def test_every_operation_tells_what_it_takes_and_answers(web: httpx.AsyncClient) -> None:
    document = (await web.get("/api/v1/openapi.json")).json()
    for one in operations(document):
        assert one.said["description"], one.name
        if one.body is not None:
            held_against(document, one.said["requestBody"]["content"]["application/json"]["schema"], one.body)
        good = {status: answer for status, answer in one.said["responses"].items() if status < "400"}
        bad = {status: answer for status, answer in one.said["responses"].items() if status >= "400"}
        assert good and set(bad) >= ALWAYS, one.name
        if "{" in one.path:
            assert "404" in bad, one.name
        for status, answer in bad.items():
            lists = ["application/json"] if status == "422" and "207" in good else []
            assert list(answer["content"]) == [MEDIA_TYPE, *lists] and answer["description"], (one.name, status)
            assert sample(document, answer["content"][MEDIA_TYPE]["schema"])["status"], (one.name, status)
        for answer in good.values():
            if "application/json" in answer["content"] and "preview" not in one.path:
                schema = answer["content"]["application/json"]["schema"]
                held_against(document, schema, sample(document, schema))


async def test_the_documents_own_errors_are_problems_too(web: httpx.AsyncClient) -> None:
    for method, path, status in (("GET", "/api/v1/nothing", 404), ("DELETE", "/api/v1/limits", 405)):
        answer = await web.request(method, path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, MEDIA_TYPE)
        assert {"type", "title", "status"} <= answer.json().keys()
