"""HTML for a tenant's own web site: a form that leads to our page, without script, style or anything fetched from us."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

_WORDS = {
    "nl": ("Uw e-mailadres", "Mijn gegevens bekijken", "Aanmelden voor {title}"),
    "en": ("Your e-mail address", "See my data", "Sign up for {title}"),
}
_FORM = """<form method="post" action="{action}" accept-charset="utf-8">
  <p>
    <label for="{name}">{label}</label>
    <input id="{name}" name="email" type="email" autocomplete="email" required maxlength="254">
    <button type="submit">{button}</button>
  </p>
</form>
"""


def form_for(public_url: str, found: Mapping[str, Any], language: str) -> dict[str, str]:
    """`url` that may be linked to and `html` that posts to it, of what `tenant.keys` answered."""
    label, own, join = _WORDS[language]
    url = f"{public_url.rstrip('/')}{found['path']}?lang={language}"
    button, name = own, "zegel-my-data"
    if "name" in found:
        titles = [found["title_nl"], found["title_en"]]
        title = next((each for each in (titles if language == "nl" else titles[::-1]) if each), found["name"])
        button, name = join.format(title=title), f"zegel-{found['name']}"
    values = {"action": url, "name": name, "label": label, "button": button}
    return {"url": url, "html": _FORM.format(**{key: escape(value) for key, value in values.items()})}
