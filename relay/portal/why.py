"""The rules in plain language: /why and /why/{rule-id}. SMTP replies link here (OPS-5)."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from relay.portal.explained import GROUPS, rules
from relay.portal.pages import ThisSite

router = APIRouter(include_in_schema=False)


@router.api_route("/why", methods=["GET", "HEAD"])
async def index(site: ThisSite, request: Request) -> Response:
    groups = [(group, [rule for rule in rules().values() if rule.group == group]) for group in GROUPS]
    return site.page(request, "why_index.html", groups=[pair for pair in groups if pair[1]])


@router.api_route("/why/{rule_id}", methods=["GET", "HEAD"])
async def explain(site: ThisSite, request: Request, rule_id: str) -> Response:
    rule = rules().get(rule_id.upper())
    if rule is None:
        return site.note(request, "why_missing", status=404)
    return site.page(request, "why.html", rule=rule, words=rule.words(site.language(request)))
