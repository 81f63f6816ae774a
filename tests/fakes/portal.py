"""The portal spoken to without a socket, and a gateway with the real owner, directory and lookup behind it."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import time
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx

from relay.consent.lookup import Lookup
from relay.directory import Directory
from relay.owner import Owner, OwnerError
from relay.portal.app import create_app
from relay.portal.gateway import OpRefused
from relay.store.generation import DIRECTORY, Generation
from tests.fakes.gateway import MemoryGateway

BASE = "https://mail.zegel.example"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def browser(gateway: Any, settings: Any, *, address: str = "192.0.2.44") -> httpx.AsyncClient:
    """A client of the portal that comes from `address`. It follows no redirect and raises no error of the server."""
    transport = httpx.ASGITransport(create_app(gateway, settings), raise_app_exceptions=False, client=(address, 50000))
    return httpx.AsyncClient(transport=transport, base_url=BASE)


class OwnerGateway(MemoryGateway):
    """The same, with the real owner, directory and lookup behind it."""

    later = 0.0
    """Seconds by which the owner's clock is ahead."""

    def __init__(self, folder: Path) -> None:
        place, api_keys = founded()
        shutil.copytree(place, folder, dirs_exist_ok=True)
        self._open(folder)
        self.api_keys = dict(api_keys)

    def _open(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder
        self.database = f"sqlite:///{folder / 'zegel.db'}"
        storage = SimpleNamespace(database=self.database)
        places = SimpleNamespace(server=SimpleNamespace(data_dir=folder), storage=storage)
        self.owner = Owner.open(places, self.keyring, now=lambda: time.time() + self.later)
        self._generation = Generation.open(folder)
        self._loaded: tuple[int, Directory] | None = None
        self.lookup = Lookup(self.database, self.keyring)  # type: ignore[assignment]  # the real one in place of the fake

    @classmethod
    def reopened(cls, before: OwnerGateway) -> OwnerGateway:
        """What a restart finds; the owner of `before` has closed."""
        made = cls.__new__(cls)
        made.later = before.later
        made._open(before.folder)
        made.api_keys = before.api_keys
        return made

    def directory(self) -> Directory:  # type: ignore[override]  # the real one in place of the fake
        """Loaded anew where something of it has changed, as the web process does."""
        seen = self._generation.read(DIRECTORY)
        if self._loaded is None or self._loaded[0] != seen:
            self._loaded = seen, Directory.load(self.database, self.keyring)
        return self._loaded[1]

    async def op(self, name: str, args: dict[str, Any]) -> dict[str, Any]:
        if self.failure is not None:
            raise self.failure
        try:
            result = self.owner.call(name, args, actor="web")
        except OwnerError as error:
            raise OpRefused(error.code, error.text) from None
        self.ops.append((name, args))
        return result if isinstance(result, dict) else {"items": result}

    def close(self) -> None:
        self._generation.close()
        self.lookup.close()
        self.owner.close()
        if self.outbox is not None:
            self.outbox.close()


@cache
def founded() -> tuple[Path, dict[str, str]]:
    """The folder that every gateway begins with a copy of, and its API keys by tenant: made once in a process."""
    folder = Path(tempfile.mkdtemp(prefix="zegel-founded-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = OwnerGateway.__new__(OwnerGateway)
    made._open(folder)
    for name in ("shop", "other"):
        made.owner.call("tenant.add", {"name": name, "legal_name": f"{name.title()} BV"})
    for tenant, purpose in (("shop", "newsletter"), ("shop", "offers"), ("other", "newsletter")):
        made.owner.call("purpose.add", {"tenant": tenant, "name": purpose, "title_nl": "Tuinbrief"})
    api_keys = {
        name: str(made.owner.call("apikey.add", {"tenant": name, "name": "forms"})["secret"])
        for name in ("shop", "other")
    }
    made.close()
    return folder, api_keys
