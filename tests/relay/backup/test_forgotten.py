"""The list of erasures across restores: an older backup may be put back after a newer one (GDPR-8)."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

from relay.backup.restore import Restore
from relay.consent.erased import FILE, Erased, read_list, write_down
from relay.keyring import Keyring
from relay.settings.model import Settings

CUT = 1_790_000_000.0


def test_who_was_erased_before_the_backup_stays_on_the_list(tmp_path: Path) -> None:
    keyring = Keyring.open(tmp_path / "keys", create=True)
    early = [Erased.of(keyring, (1, "shop"), CUT - days * 86_400, [f"n{days}@example.net"]) for days in (9, 2)]
    write_down(tmp_path, [*early, early[0]])
    data_dir = tmp_path / "new"
    server = SimpleNamespace(data_dir=data_dir, keys_dir=tmp_path / "new keys")
    settings = cast(Settings, SimpleNamespace(server=server, database_path=data_dir / "zegel.db"))
    restore = Restore(settings, progress=lambda octets: None, erased=tmp_path / FILE)
    restore._stage.mkdir(parents=True)
    restore._manifest = {"cut_at": CUT}
    restore._forget()
    assert restore._people == 0, "the backup knows them as erased"
    assert list(read_list(restore._stage / FILE)) == early
