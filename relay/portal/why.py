"""The rules in plain language: /why and /why/{rule-id}. SMTP replies link here (OPS-5)."""

from __future__ import annotations

import tomllib
from functools import cache
from typing import NamedTuple

from fastapi import APIRouter, Request, Response

from relay.portal.pages import HERE, Site

GROUPS = ("consent", "unsub", "cc", "dlp", "class", "id", "dkim", "throttle", "msg", "smtp", "pipe", "out", "other")
BASES = ("law", "mailbox", "standard", "safety")
_GROUP_OF = {prefix.upper(): prefix for prefix in GROUPS}


class Words(NamedTuple):
    """The text of one rule in one language; `example` may be empty."""

    title: str
    what: str
    why: str
    do: str
    example: str


class Rule(NamedTuple):
    """One rule as people read it. `basis` tells where it comes from (one of BASES)."""

    id: str
    group: str
    basis: str
    nl: Words
    en: Words

    def words(self, language: str) -> Words:
        return self.nl if language == "nl" else self.en


@cache
def rules() -> dict[str, Rule]:
    """Every explained rule by id, in the order of rules.toml. Raises KeyError or TypeError where the file is incomplete."""
    table = tomllib.loads((HERE / "rules.toml").read_text("utf-8"))
    return {rule_id: _rule(rule_id, entry) for rule_id, entry in table.items()}


def _rule(rule_id: str, entry: dict[str, object]) -> Rule:
    basis = str(entry["basis"])
    if basis not in BASES:
        raise KeyError(f"{rule_id}: basis {basis}")
    words = [Words(**({"example": ""} | entry[language])) for language in ("nl", "en")]  # type: ignore[operator]  # a table
    return Rule(rule_id, _GROUP_OF.get(rule_id.partition("-")[0], "other"), basis, *words)


def routes(site: Site) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.api_route("/why", methods=["GET", "HEAD"])
    async def index(request: Request) -> Response:
        groups = [(group, [rule for rule in rules().values() if rule.group == group]) for group in GROUPS]
        return site.page(request, "why_index.html", groups=[pair for pair in groups if pair[1]])

    @router.api_route("/why/{rule_id}", methods=["GET", "HEAD"])
    async def explain(request: Request, rule_id: str) -> Response:
        rule = rules().get(rule_id.upper())
        if rule is None:
            return site.note(request, "why_missing", status=404)
        return site.page(request, "why.html", rule=rule, words=rule.words(site.language(request)))

    return router
