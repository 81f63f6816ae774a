"""The real gateway for tests: its own processes, folders, certificate, tenant and logins, sending to a sink."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from relay.keyring import Keyring
from relay.owner import Owner
from relay.settings.model import Settings
from relay.spool.cipher import Cipher
from relay.spool.item import decode_id
from relay.store.history import Event, read
from tests.clients.certificate import Certificates
from tests.harness.ports import free_port

REPOSITORY = Path(__file__).parents[2]
DOMAIN = "sender.example"
HOSTNAME = "gateway.example"
_STOP_SECONDS = 60.0
_THROTTLES = (
    "personal_messages_per_minute",
    "personal_recipients_per_day",
    "transactional_messages_per_minute",
    "marketing_messages_per_minute",
    "stream_messages_per_minute",
    "tenant_messages_per_minute",
    "tenant_recipients_per_day",
    "domain_messages_per_minute",
    "client_messages_per_minute",
    "warmup_recipients",
)
UNLIMITED = dict.fromkeys(_THROTTLES, 1_000_000_000)


class Login(NamedTuple):
    """A credential as the owner made it."""

    username: str
    password: str


class _Storage(NamedTuple):
    database: str


class _Places(NamedTuple):
    """What relay.owner wants to know of the settings."""

    server: Any
    storage: _Storage


class Gateway:
    """One gateway with tenant `shop`; open it with `with`. `dkim` maps record names to TXT texts, as DNS would have them."""

    def __init__(
        self,
        folder: Path,
        certificates: Certificates,
        sink_port: int,
        *,
        workers: int = 1,
        policies: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.certificates = certificates
        self.submission, self.submissions, self.plain, self.web = (free_port() for _ in range(4))
        self.logins: dict[str, Login] = {}
        self.dkim: dict[str, str] = {}
        tls = {"certificate": str(certificates.certificate), "key": str(certificates.key)}
        values = {
            "server": {
                "hostname": HOSTNAME,
                "data_dir": str(folder / "data"),
                "keys_dir": str(folder / "keys"),
                "workers": workers,
                "language": "en",
            },
            "listener": [
                {"kind": "submission", "address": f"127.0.0.1:{self.submission}", "tls": "required", **tls},
                {"kind": "submissions", "address": f"127.0.0.1:{self.submissions}", "tls": "required", **tls},
                {"kind": "submission", "address": f"127.0.0.1:{self.plain}", "tls": "off"},
            ],
            "web": {"address": f"127.0.0.1:{self.web}", "public_url": "https://mail.gateway.example"},
            "delivery": {"mode": "smarthost", "smarthosts": [f"smtp://127.0.0.1:{sink_port}"], "tls": "off"},
            "limits": {"min_free_disk_bytes": 0},
            "policies": {"throttle": UNLIMITED, **(policies or {})},
        }
        self.settings = Settings.model_validate_json(json.dumps(values))
        self._keyring = Keyring.open(self.settings.server.keys_dir, create=True)
        self._process: subprocess.Popen[str] | None = None
        self._set_up()

    def _set_up(self) -> None:
        storage = _Storage(f"sqlite:///{self.settings.database_path}")
        owner = Owner.open(_Places(self.settings.server, storage), self._keyring)
        self._owner = owner
        try:
            self._op(
                "tenant.add",
                name="shop",
                legal_name="Shop BV",
                contact=f"info@{DOMAIN}",
                language="en",
                refusal_letters=False,
            )
            self._op("domain.add", tenant="shop", domain=DOMAIN, vouched=True)
            self._op("purpose.add", tenant="shop", name="newsletter", title_nl="Nieuws", title_en="News")
            self._op("dkim.add", domain=DOMAIN, selector="g1", vouched=True)
            self.dkim = {record["name"]: record["value"] for record in self._op("dkim.dns", domain=DOMAIN)}
            for name, extra in (
                ("personal", {"stream": "personal"}),
                ("service", {"stream": "transactional"}),
                ("newsletter", {"stream": "marketing", "purpose": "newsletter"}),
                ("server", {"stream": "personal", "null_sender": True}),
            ):
                self.logins[name] = self._credential(f"shop-{name}", extra)
        finally:
            owner.close()

    def _credential(self, name: str, extra: Mapping[str, Any]) -> Login:
        """A login whose password does not begin with a dash: swaks has no way to be told such a one."""
        made = self._op("credential.add", tenant="shop", name=name, **extra)
        login = Login(made["username"], made["password"])
        return self._credential(f"{name}-more", extra) if login.password.startswith("-") else login

    def _op(self, op: str, /, **args: Any) -> Any:
        return self._owner.call(op, args)

    def consent(self, addresses: Sequence[str]) -> None:
        """Consent of each address for the newsletter. Only while the gateway does not run."""
        row = {
            "purpose": "newsletter",
            "basis": "consent",
            "method": "web_form",
            "source": "https://shop.example/join",
            "given_at": "2026-01-02T10:00:00Z",
            "text": "Yes, send me the newsletter",
            "text_language": "en",
            "policy_url": "https://shop.example/privacy",
            "jurisdiction": "NL",
            "provenance": "own",
            "sensitive_audience": "no",
        }
        storage = _Storage(f"sqlite:///{self.settings.database_path}")
        self._owner = Owner.open(_Places(self.settings.server, storage), self._keyring)
        try:
            rows = [{**row, "email": address} for address in addresses]
            answer = self._op("consent.import_rows", tenant="shop", rows=rows)
            assert answer["imported"] == len(rows), answer
        finally:
            self._owner.close()

    def __enter__(self) -> Gateway:
        path = self.folder / "settings.json"
        path.write_text(self.settings.model_dump_json())
        log = (self.folder / "log").open("w")
        command = [sys.executable, "-m", "tests.harness.serve", str(path)]
        self._process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=log, text=True)
        log.close()
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line == "ready\n":
                return self
        self.__exit__()
        raise AssertionError(f"the gateway did not start: {self.log()[-8000:]}")

    def __exit__(self, kind: object = None, error: BaseException | None = None, trace: object = None) -> None:
        if error is not None:
            error.add_note(f"the gateway's log ends with: {self.log()[-4000:]}")
        process = self._process
        assert process is not None and process.stdout is not None
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        finally:
            process.kill()
            process.stdout.close()

    def log(self) -> str:
        """What the gateway logged so far."""
        return (self.folder / "log").read_text()

    def history(self, queue_ids: Sequence[str]) -> list[Event]:
        """The delivery log of these messages, oldest first, as `zegel trace` reads it."""
        cipher = Cipher(self._keyring.queue_keys, self._keyring.current_queue_key_id)
        numbers = [number for number in map(decode_id, queue_ids) if number is not None]
        return read(self.settings.server.data_dir / "history", numbers, cipher.open)
