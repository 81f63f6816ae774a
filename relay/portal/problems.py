"""Every error of the API as RFC 9457 problem details. An answer never repeats what was sent in."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from relay.portal.gateway import OpUnavailable

RETRY_AFTER_SECONDS = 30
MEDIA_TYPE = "application/problem+json"
MOST_ERRORS = 50
TITLES = {
    400: "The request could not be read",
    401: "An API key is needed",
    403: "This key may not do that",
    404: "There is no such thing",
    405: "That cannot be done here",
    409: "That cannot be changed",
    413: "The body is over 1 MB",
    415: "The body is not said to be JSON",
    422: "Some fields are not right",
    429: "Too many requests",
    500: "Something went wrong on our side",
    503: "The gateway cannot store anything right now",
}
_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")
_PYDANTIC = "Value error, "  # what it puts before a sentence of ours


def problem(
    status: int,
    detail: str = "",
    *,
    errors: list[dict[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    body: dict[str, Any] = {
        "type": "about:blank",
        "status": status,
        "title": TITLES.get(status, "The request was refused"),
    }
    if detail:
        body["detail"] = detail
    if errors:
        body["errors"] = errors
    return JSONResponse(body, status, {"Cache-Control": "no-store", **(headers or {})}, media_type=MEDIA_TYPE)


def told(error: Exception) -> JSONResponse:
    """The answer to what a route raised: refused, misread, not to be stored now, or a bug of ours."""
    if isinstance(error, RequestValidationError):
        return _explained(error)
    if isinstance(error, OpUnavailable):
        wait = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        return problem(503, "try again; sending the same again is safe", headers=wait)
    if isinstance(error, StarletteHTTPException):
        # The framework's own texts for 404 and 405 are its titles; ours say more.
        ours = isinstance(error, HTTPException) and error.status_code not in (405, 413)
        return problem(error.status_code, str(error.detail) if ours else "", headers=error.headers)
    return problem(500)


def sentence(error: Mapping[str, Any]) -> str:
    """What pydantic found wrong, without its own word before a sentence of ours."""
    return str(error["msg"]).removeprefix(_PYDANTIC)


def add_error_answers(api: FastAPI) -> None:
    async def answer(request: Request, error: Exception) -> JSONResponse:
        # The framework raises a bug again behind this answer, and the guard logs it.
        return told(error)

    for kind in (StarletteHTTPException, RequestValidationError, OpUnavailable, Exception):
        api.add_exception_handler(kind, answer)


def _explained(error: RequestValidationError) -> JSONResponse:
    # Never `input` or `ctx`: they repeat what was sent, which may be an address or a key.
    found: Sequence[Mapping[str, Any]] = error.errors()
    if any(item["type"] == "json_invalid" for item in found):
        return problem(400, "the body is not JSON")
    # A body that may be one or a list is held against both: what the other one lacks is no news.
    news = [item for item in found if item["type"] not in ("list_type", "model_attributes_type")] or found
    return problem(
        422, errors=[{"field": _field(item["loc"]), "reason": sentence(item)} for item in news[:MOST_ERRORS]]
    )


def _field(location: tuple[int | str, ...]) -> str:
    """Path of a field as people write it: `3.given_at` for the fourth item's given_at."""
    # Pydantic names the branch of "one or a list" in the path; the sender does not know those names.
    return ".".join(
        field_name(part)
        for part in location
        if part not in ("body", "path", "query", "header", "ConsentEvent", "ToldOutcome") and "[" not in str(part)
    )


def field_name(part: int | str) -> str:
    """What is no name of a field may be an address or a key: who swaps names and values is not sent them back."""
    text = str(part)
    return text if _NAME.fullmatch(text) else "?"
