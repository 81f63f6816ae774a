"""A verdict of `explain` for people: the answer, each recipient, each policy, and the head as it would leave."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from relay.cli.output import COLOURS, clean, console, table

SENTENCES = {
    "accept": "The mail would be taken and sent.",
    "hold": "The mail would be taken and wait for a person.",
    "defer": "The mail would be refused for now; the sender tries again.",
    "reject": "The mail would be refused.",
}
RECIPIENTS = (("address", "recipient"), ("action", "action"), ("rule", "rule"), ("reason", "why"))
POLICIES = (
    ("policy", "policy"), ("mode", "mode"), ("action", "action"), ("rule", "rule"), ("reason", "why"), ("changes", "changes"),
)  # fmt: skip
_SLOT = re.compile(r"\{\w+\}")


def show_verdict(verdict: Mapping[str, Any]) -> None:
    """Print it."""
    from rich.text import Text

    out = console()
    action, recipients, policies = str(verdict["action"]), verdict["recipients"], verdict["policies"]
    takes = action in ("accept", "hold")
    refused = sum(recipient["action"] == "reject" for recipient in recipients)
    but = f" Not for {refused} of its {len(recipients)} recipients." if takes and refused else ""
    out.print(Text(SENTENCES[action] + but, style=f"bold {COLOURS.get(action, '')}"))
    out.print(Text(f"  {clean(str(verdict['reply']))}"))
    out.print(table(map(_with_sentence, recipients), RECIPIENTS))
    if policies:
        out.print(
            table([{**_with_sentence(entry), "changes": _changes(entry["edits"])} for entry in policies], POLICIES)
        )
    if takes and any(entry["edits"] and entry["mode"] == "enforce" for entry in policies):
        out.print(Text("The head as it would leave, but for what differs in each copy:", style="bold"))
        for name, value in verdict["headers_after"]:
            out.print(Text(clean(f"  {name}: {value}")))


def _with_sentence(entry: Mapping[str, Any]) -> dict[str, Any]:
    from relay.mail.reply import REASONS

    code = str(entry["reason"])
    told = f"{code}: {_SLOT.sub('...', REASONS[code].en)}" if code else ""
    return {**entry, "reason": told}


def _changes(edits: list[Mapping[str, Any]]) -> list[str]:
    return [f"{edit['kind']} {edit['name']} ({edit['rule']})".replace("  ", " ") for edit in edits]
