"""How the API reads a body: JSON that means one thing to everybody, or a sentence that says why it was not read.

Of a key that stands twice one reader takes the first and another the last; so it is refused, as are numbers and depths
that no field of the API has, bytes that are no UTF-8, and bodies that are not said to be JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.routing import APIRoute

from relay.portal import once
from relay.portal.guard import TooLarge
from relay.portal.openapi import refusals

MAX_DIGITS = 30
REFUSALS = refusals(400, 401, 403, 409, 413, 415, 422, 429, 503)  # of any operation


def parse(body: bytes) -> Any:
    """The value in `body`. Raises JSONDecodeError where it is no JSON, HTTPException 400 where it is refused."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise HTTPException(400, "the body is not UTF-8") from None
    try:
        return json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_fraction, parse_constant=_constant
        )
    except RecursionError:
        raise HTTPException(400, "the body is nested too deeply: an object, or a list of objects") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise HTTPException(400, "an object of the body names the same key twice: send each key once")
    return made


def _integer(digits: str) -> int:
    return int(_short(digits))


def _fraction(digits: str) -> float:
    return float(_short(digits))


def _short(digits: str) -> str:
    if len(digits) > MAX_DIGITS:
        raise HTTPException(400, f"a number in the body has more than {MAX_DIGITS} digits")
    return digits


def _constant(name: str) -> Any:
    raise HTTPException(400, f"{name} is not JSON")


class _JsonRequest(Request):
    """A request whose body is taken as JSON only where its sender says that it is."""

    async def body(self) -> bytes:
        try:
            body = await super().body()
        except TooLarge:
            # The framework would call it unreadable. What was not read to its end would be taken for the next request.
            raise HTTPException(413, headers={"Connection": "close"}) from None
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        is_json = kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
        if body and not is_json:
            raise HTTPException(415, "send JSON, with the header Content-Type: application/json")
        return body

    async def json(self) -> Any:
        return parse(await self.body())


class JsonRoute(APIRoute):
    """A route of the API; its body is read by `parse`, and what it answers is kept for whoever names a key for it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await once.kept(_JsonRequest(request.scope, request.receive), answer)

        return strict


def api_router() -> APIRouter:
    """For the routes of one part of the API."""
    return APIRouter(route_class=JsonRoute, responses=REFUSALS)
