"""Who calls the API, and whether his key may do this: each route asks for one scope, by the type of its `tenant`."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import Header, HTTPException, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes

from relay.mail.apikey import ApiKey, Scope
from relay.mail.envelope import Tenant
from relay.observe.actor import actor
from relay.portal import once
from relay.portal.gateway import OpUnavailable
from relay.portal.pages import Site
from relay.portal.rates import STATE, Rate

BEARER = HTTPBearer(auto_error=False, description="An API key of the tenant; each operation names the scope it needs.")


IDEMPOTENCY = Header(
    description="A random word of yours for this request: sent again with it within 24 hours, it gets the same answer and "
    "nothing is done twice. With another body 422, while the first is at work 409.",
    examples=["8e03978e-40d5-43e8-bc93-6894a57f9324"],
)


async def calling_tenant(
    request: Request,
    wanted: SecurityScopes,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)],
) -> Tenant:
    """The tenant whose key came with the request. Raises HTTPException 401, or 403 where it may not do this."""
    key = identified(request, credentials.credentials if credentials is not None else "")
    require(key, wanted.scopes)
    return key.tenant


async def writing_tenant(
    request: Request,
    wanted: SecurityScopes,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)],
    idempotency_key: Annotated[list[str] | None, IDEMPOTENCY] = None,
) -> Tenant:
    """The same for an operation that changes something: with an Idempotency-Key it is done once."""
    tenant = await calling_tenant(request, wanted, credentials)
    if idempotency_key is not None:
        await once.begin(request, tenant, idempotency_key, by_ref=Scope.REQUESTS_WRITE in wanted.scopes)
    return tenant


def identified(request: Request, secret: str) -> ApiKey:
    """The key in force that came with a request. Raises HTTPException 401 or 429, or OpUnavailable."""
    if not secret:
        raise HTTPException(401, "send the key as `Authorization: Bearer <key>`", {"WWW-Authenticate": "Bearer"})
    site: Site = request.app.state.site
    directory = site.gateway.directory()
    if not directory.is_known:
        raise OpUnavailable("directory")
    key = directory.api_caller(secret)
    challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
    if key is None:
        raise HTTPException(401, "this key is not known, or was revoked", challenge)
    if key.has_expired(time.time()):
        raise HTTPException(401, "this key has expired: ask the operator of the gateway for a new one", challenge)
    actor.set(f"api:{key.name}")
    site.gateway.key_used(key)
    rate: Rate = request.app.state.rates.ask(key)
    request.scope.setdefault("state", {})[STATE] = rate.headers
    if rate.wait:
        told = "this key or its tenant asks more often than is allowed: send lists of up to 500 at once, or come back later"
        raise HTTPException(429, told, {"Retry-After": str(rate.wait)})
    return key


def require(key: ApiKey, scopes: list[str]) -> None:
    """Raises HTTPException 403 where the key, or its tenant, may not do this."""
    if key.tenant.suspended:
        raise HTTPException(403, "this tenant is suspended; ask the operator of the gateway")
    for scope in scopes:
        if not key.may(scope):
            challenge = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'}
            raise HTTPException(403, f"this key lacks the scope {scope}: use one that has it", challenge)


def _with(scope: Scope) -> object:
    return Security(writing_tenant if scope.endswith(":write") else calling_tenant, scopes=[scope.value])


ReadsConsents = Annotated[Tenant, _with(Scope.CONSENTS_READ)]
WritesConsents = Annotated[Tenant, _with(Scope.CONSENTS_WRITE)]
WritesSuppressions = Annotated[Tenant, _with(Scope.SUPPRESSIONS_WRITE)]
ReadsMessages = Annotated[Tenant, _with(Scope.MESSAGES_READ)]
ReadsMailings = Annotated[Tenant, _with(Scope.MAILINGS_READ)]
WritesMailings = Annotated[Tenant, _with(Scope.MAILINGS_WRITE)]
ReadsHeld = Annotated[Tenant, _with(Scope.HELD_READ)]
DecidesHeld = Annotated[Tenant, _with(Scope.HELD_WRITE)]
TellsOutcomes = Annotated[Tenant, _with(Scope.OUTCOMES_WRITE)]
ReadsReputation = Annotated[Tenant, _with(Scope.REPUTATION_READ)]
ReadsLimits = Annotated[Tenant, _with(Scope.LIMITS_READ)]
ReadsProofs = Annotated[Tenant, _with(Scope.PROOFS_READ)]
ReadsSuppressions = Annotated[Tenant, _with(Scope.SUPPRESSIONS_READ)]
ReadsPurposes = Annotated[Tenant, _with(Scope.PURPOSES_READ)]
ReadsDomains = Annotated[Tenant, _with(Scope.DOMAINS_READ)]
ReadsRequests = Annotated[Tenant, _with(Scope.REQUESTS_READ)]
WritesRequests = Annotated[Tenant, _with(Scope.REQUESTS_WRITE)]
ReadsWebhooks = Annotated[Tenant, _with(Scope.WEBHOOKS_READ)]
WritesWebhooks = Annotated[Tenant, _with(Scope.WEBHOOKS_WRITE)]
