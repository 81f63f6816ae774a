"""What the demo is made of: a shop with three logins, a few consents, and the commands to try."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from relay.cli.client import Link, keyring_for
from relay.settings.generate import literal
from relay.settings.model import Settings

TENANT = "Voorbeeldwinkel"
CLUB = "Voorbeeldclub"  # made only by --samples: its settings differ on purpose
DOMAIN, CLUB_DOMAIN = "shop.example", "club.example"
PURPOSE = "nieuwsbrief"
SUBSCRIBERS = ("ann@example.net", "bob@example.org", "carla@example.com")
STRANGER = "zoe@example.com"
NOTES = "demo.json"


class Login(NamedTuple):
    """A made credential."""

    username: str
    password: str


class Demo(NamedTuple):
    """A demo that is set up: everything that the printed commands and the samples need."""

    settings: Settings
    folder: Path
    logins: Mapping[str, Login]  # by stream
    optin_key: str
    secret: str  # API key

    def welcome(self) -> list[str]:
        """What is printed when it is ready; every command works as pasted."""
        web, smtp = self.settings.web.public_url, self.settings.listener[0].endpoint
        lines = [
            f"Zegel runs: SMTP {smtp}, web {web}. Nothing leaves this machine.",
            f"  what came in and what would have left   {web}/outbox",
            f"  a sign-up form with confirmation        {web}/optin/{self.optin_key}",
            f"  other commands, for instance            {_command()} trace ann@example.net -c {self.folder / 'zegel.toml'}",
            "",
            f"Tenant {TENANT}, domain {DOMAIN}, list {PURPOSE}. These said yes: {', '.join(SUBSCRIBERS)}.",
            f"This one did not: {STRANGER}.",
            "",
            *(
                f"  {stream:<14} user {login.username:<32} password {login.password}"
                for stream, login in self.logins.items()
            ),
            "",
            "Copy and paste (another terminal):",
        ]
        for title, text in commands(self):
            lines += ["", f"# {title}", text]
        return [*lines, "", "Stop with Ctrl-C."]


def _command() -> str:
    """How this program is called from where the reader stands."""
    if shutil.which("zegel"):
        return "zegel"
    beside = Path(sys.executable).with_name("zegel")
    if not beside.exists():
        return f"{shlex.quote(sys.executable)} -m relay"
    here = Path.cwd()
    return shlex.quote(str(beside.relative_to(here) if beside.is_relative_to(here) else beside))


def provide(settings: Settings, folder: Path) -> Demo:
    """The demo in `folder`, made where it is not there yet."""
    settings.server.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    keyring_for(settings)
    path = folder / NOTES
    if not path.exists():
        with Link(settings) as link:
            notes = _make(link, settings)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "w", encoding="utf-8") as file:
            json.dump(notes, file)
    notes = json.loads(path.read_text(encoding="utf-8"))
    logins = {stream: Login(*pair) for stream, pair in notes["logins"].items()}
    return Demo(settings, folder, logins, notes["optin_key"], notes["secret"])


def _make(link: Link, settings: Settings) -> dict[str, Any]:
    make_tenant(link, settings, TENANT, DOMAIN)
    purpose = link.call(
        "purpose.add", {"tenant": TENANT, "name": PURPOSE, "title_nl": "de nieuwsbrief", "title_en": "the newsletter"}
    )
    for address in SUBSCRIBERS:
        link.call("consent.give", consent(TENANT, PURPOSE, address))
    logins = {}
    for stream in ("marketing", "transactional", "personal"):
        args = {"tenant": TENANT, "stream": stream, **({"purpose": PURPOSE} if stream == "marketing" else {})}
        made = link.call("credential.add", args)
        logins[stream] = (made["username"], made["password"])
    secret = link.call("apikey.add", {"tenant": TENANT, "name": "demo"})["secret"]
    return {"logins": logins, "optin_key": purpose["optin_key"], "secret": secret}


def make_tenant(link: Link, settings: Settings, name: str, domain: str) -> None:
    """A tenant that may send as `domain`: vouched for, with a key that signs at once."""
    values = {
        "name": name,
        "legal_name": f"{name} B.V.",
        "language": settings.server.language,
        "contact": f"info@{domain}",
        "refusal_letters": False,  # the samples are refused by the dozen; /outbox explains each
        "postal_address": "Dorpsstraat 1, 1234 AB Voorbeeld",
    }
    link.call("tenant.add", values)
    link.call("domain.add", {"tenant": name, "domain": domain, "vouched": True})
    link.call("dkim.add", {"tenant": name, "domain": domain, "vouched": True})


def consent(tenant: str, purpose: str, address: str) -> dict[str, object]:
    """Arguments of `consent.give`: a full record, as a sign-up form would make it (CONSENT-2)."""
    return {
        "tenant": tenant,
        "email": address,
        "purpose": purpose,
        "basis": "consent",
        "method": "web_form",
        "source": f"https://{DOMAIN}/join",
        "given_at": "2026-01-02T10:00:00Z",
        "text": "Ja, stuur mij de nieuwsbrief",
        "text_language": "nl",
        "policy_url": f"https://{DOMAIN}/privacy",
        "jurisdiction": "NL",
        "provenance": "own",
        "sensitive_audience": "no",
    }


def commands(demo: Demo) -> list[tuple[str, str]]:
    """(what it shows, the command): swaks, curl and Python, ready to paste into a shell."""
    smtp, web = demo.settings.listener[0].endpoint, demo.settings.web.public_url
    news, orders, people = (demo.logins[stream] for stream in ("marketing", "transactional", "personal"))
    leave = f"<https://{DOMAIN}/leave/k3y>"

    def swaks(login: Login, *rest: str) -> str:
        auth = ("--auth", "PLAIN", "--auth-user", login.username, "--auth-password", login.password)
        return shlex.join(("swaks", "--server", smtp.host, "--port", str(smtp.port), *auth, *rest))

    newsletter = (
        *(
            "--from",
            f"news@{DOMAIN}",
            "--header",
            "Subject: News from the shop",
            "--body",
            f"News. Leave: {leave[1:-1]}",
        ),
        *(
            "--add-header",
            f"List-Unsubscribe: {leave}",
            "--add-header",
            "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
        ),
    )
    invoice = (
        f"From: orders@{DOMAIN}\\r\\nTo: dave@example.net\\r\\nSubject: Invoice 2026-17\\r\\n\\r\\nYour invoice.\\r\\n"
    )
    return [
        (
            "swaks: a newsletter to somebody who said yes: accepted, signed, in the outbox",
            swaks(news, "--to", SUBSCRIBERS[0], *newsletter),
        ),
        (
            "swaks: the same to somebody who did not: refused, with the reason",
            swaks(news, "--to", STRANGER, *newsletter),
        ),
        (
            "curl: an invoice passes untouched",
            f"printf '{invoice}' | curl -sS --url smtp://{smtp} --user {shlex.quote(':'.join(orders))} "
            f"--mail-from orders@{DOMAIN} --mail-rcpt dave@example.net --upload-file -",
        ),
        (
            "curl: somebody signs up; the confirmation mail is in the outbox",
            f"curl -sS -o /dev/null -w '%{{http_code}}\\n' -d email=eve@example.net {web}/optin/{demo.optin_key}",
        ),
        (
            "Python: a mail with 30 people in Cc leaves as 30 mails, each with one address",
            _python(smtp.host, smtp.port, people),
        ),
    ]


def _python(host: str, port: int, login: Login) -> str:
    return f"""python3 - <<'END'
import smtplib
from email.message import EmailMessage

mail = EmailMessage()
mail["From"], mail["Subject"] = "office@{DOMAIN}", "Meeting on Thursday"
mail["To"] = "office@{DOMAIN}"
mail["Cc"] = ", ".join(f"guest{{number}}@guests{{number}}.example" for number in range(30))
mail.set_content("See you on Thursday.")
with smtplib.SMTP("{host}", {port}) as smtp:
    smtp.login({login.username!r}, {login.password!r})
    smtp.send_message(mail)
print("sent")
END"""


def config_text(settings: Settings) -> str:
    """These settings as TOML, without what is default."""
    values, defaults = settings.model_dump(mode="json"), Settings().model_dump(mode="json")
    lines = ["# Written by `zegel demo`; for other commands: -c this file."]
    for name, value in values.items():
        if name == "listener":
            for listener in value:
                lines += ["", "[[listener]]", *_pairs(listener)]
        elif name == "policies":
            for policy, table in value.items():
                lines += ["", f"[policies.{policy}]", *_pairs(table)]
        elif changed := {key: inner for key, inner in value.items() if inner != defaults[name][key]}:
            lines += ["", f"[{name}]", *_pairs(changed)]
    return "\n".join(lines) + "\n"


def _pairs(table: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {literal(value)}" for key, value in table.items() if value is not None]
