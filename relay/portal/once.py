"""`Idempotency-Key`: whoever does not hear an answer asks again with the same key, and nothing is done twice.

The key is taken before anything is done, and the answer kept, sealed, for a day; both by the owner, so they outlast a restart. A
run that was cut off is taken over after two minutes by the next one. What it had done by then it finds done: every operation of
the API says the same when it is sent again.

No kept answer names anybody, so an erasure finds none to mend: of an answer that shows the request of a person only its `ref` is
kept, and who asks again gets that request as it stands then (GDPR-8). All other answers hold numbers and names of ours.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re
import zlib
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, NamedTuple

import orjson
from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError

from relay.keyring import Keyring
from relay.mail.envelope import Tenant
from relay.portal.gateway import Gateway, OpRefused, OpUnavailable
from relay.portal.pages import Site
from relay.portal.problems import told
from relay.spool.cipher import Cipher, CorruptRow

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
RUN_SECONDS = 100.0  # less than the owner's lease
KEPT_HEADERS = ("content-type", "cache-control")
_KEY = re.compile(r"[!-~]{1,200}")

is_resumed: ContextVar[bool] = ContextVar("is_resumed", default=False)
"""Whether this request may have been carried out in part before, by a run that did not end."""

settled: ContextVar[str] = ContextVar("settled", default="")
"""`ref` of the request of a person that was done before under this key: to be shown, as it stands, and not done again."""


def again() -> dict[str, bool]:
    """For an operation that would refuse what such a run has done already: `once`, where there may have been one."""
    return {"once": True} if is_resumed.get() else {}


class Run(NamedTuple):
    """A request that holds its key."""

    gateway: Gateway
    tenant: str
    key: bytes
    at: float
    by_ref: bool  # what is answered names a person

    @property
    def named(self) -> dict[str, Any]:
        return {"tenant": self.tenant, "key": self.key.hex(), "run": self.at}


class Replayed(Exception):
    """The request was answered before; nothing is done."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


async def begin(request: Request, tenant: Tenant, given: list[str], *, by_ref: bool) -> None:
    """Takes the key for this request; with `by_ref` its answer shows the request of a person. Where that was answered before,
    `settled` is set. Raises Replayed, OpUnavailable, or HTTPException: 400, 409, 422.
    """
    if len(given) > 1 or not _KEY.fullmatch(given[0]):
        raise HTTPException(400, f"{HEADER} is one word of at most 200 visible ASCII characters: use a random UUID")
    site: Site = request.app.state.site
    keyring: Keyring = site.gateway.keyring
    body = hashlib.sha256(await request.body()).hexdigest()
    # Under one lasting hash key: a row lives a day, and a rotation in it must not free the key.
    key = keyring.lasting_hash(f"idempotency\0{tenant.id}\0{given[0]}")
    what = keyring.lasting_hash(f"request\0{request.method}\0{request.url.path}?{request.url.query}\0{body}")
    found = await site.gateway.op("once.begin", {"tenant": tenant.name, "key": key.hex(), "request": what.hex()})
    if found["state"] == "other":
        raise HTTPException(422, f"this {HEADER} came with another request before: make a new one for each request")
    if found["state"] == "running":
        wait = {"Retry-After": "1"}
        raise HTTPException(409, f"the first request with this {HEADER} is still at work: ask again later", wait)
    if found["state"] == "done":
        before = _opened(keyring, key, int(found["status"]), found["answer"])
        if not by_ref or before.status_code >= 300:
            raise Replayed(before)
        settled.set(str(orjson.loads(before.body)["ref"]))
        return
    is_resumed.set(bool(found["again"]))
    request.state.run = Run(site.gateway, tenant.name, key, found["run"], by_ref)


async def kept(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    """What `answer` answers, and kept where the request holds a key. Raises what it raises."""
    is_resumed.set(False)
    settled.set("")
    try:
        async with asyncio.timeout(RUN_SECONDS):
            response = await answer(request)
    except Replayed as before:
        return before.response
    except TimeoutError:
        raise OpUnavailable("time") from None
    except Exception as error:
        run = getattr(request.state, "run", None)
        if run is None:
            raise
        response = told(error)
        if response.status_code >= 500:
            await _tell(run, "once.drop", forget=False)  # it may have been done in part
            raise
        if isinstance(error, RequestValidationError) or response.status_code in (400, 413, 415):
            await _tell(run, "once.drop", forget=True)
            raise
    run = getattr(request.state, "run", None)
    if run is not None:
        await _tell(run, "once.finish", status=response.status_code, answer=_sealed(run, response))
    if settled.get():
        response.headers[REPLAYED] = "true"
    return response


async def _tell(run: Run, op: str, **more: Any) -> None:
    # What cannot be told is taken over after a while, and the operation itself says the same again.
    with contextlib.suppress(OpRefused, OpUnavailable):
        await run.gateway.op(op, run.named | more)


def _sealed(run: Run, response: Response) -> str:
    headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
    body = bytes(response.body)
    if run.by_ref and response.status_code < 300:
        body = orjson.dumps({"ref": orjson.loads(body)["ref"]})
    # An answer to 500 wrong items is larger than they were, and the same sentence 500 times.
    clear = zlib.compress(orjson.dumps([headers, body.decode()]), 1)
    return base64.b64encode(_cipher(run.gateway.keyring).seal(_number(run.key), clear)).decode()


def _opened(keyring: Keyring, key: bytes, status: int, sealed: str) -> Response:
    try:
        clear = _cipher(keyring).open(_number(key), base64.b64decode(sealed))
        headers, body = orjson.loads(zlib.decompress(clear))
    except (CorruptRow, zlib.error):
        raise OpUnavailable("answer") from None
    return Response(body, status, {**headers, REPLAYED: "true"})


def _cipher(keyring: Keyring) -> Cipher:
    return Cipher(keyring.queue_keys, keyring.current_queue_key_id)


def _number(key: bytes) -> int:
    """What binds an answer to its row."""
    return int.from_bytes(key[:8], "big")
