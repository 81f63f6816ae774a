"""Checks the DKIM signatures of sampled messages with dkimpy against a key at hand: no DNS is asked."""

from __future__ import annotations

from pathlib import Path

import dkim


def verify_folder(folder: Path, domain: str, public_key: str) -> tuple[int, int, str]:
    """How many of the folder's *.eml verify for `domain`, of how many, and the first failure in words.

    `public_key` is the p= value of an RSA DKIM record. A message with several signatures passes when the first RSA one
    of that domain does.
    """
    record = f"v=DKIM1; k=rsa; p={public_key}".encode()
    good, files, why = 0, sorted(folder.glob("*.eml")), ""
    for path in files:
        trouble = _trouble(path.read_bytes(), domain.encode(), record)
        good += not trouble
        why = why or (f"({path.name}: {trouble})" if trouble else "")
    return good, len(files), why


def _trouble(message: bytes, domain: bytes, record: bytes) -> str:
    """Why the message does not verify; "" when it does."""
    verifier = dkim.DKIM(message)
    signatures = [value for name, value in verifier.headers if name.lower() == b"dkim-signature"]
    for index, value in enumerate(signatures):
        tags = dkim.util.parse_tag_value(value)
        if tags.get(b"d") != domain or tags.get(b"a") != b"rsa-sha256":
            continue
        covered = {name.strip().lower() for name in tags.get(b"h", b"").split(b":")}
        if not {b"from", b"list-unsubscribe", b"list-unsubscribe-post"} <= covered:
            return "From or the List-Unsubscribe pair is not covered"
        try:
            return "" if verifier.verify(idx=index, dnsfunc=lambda name, timeout=5: record) else "does not verify"
        except dkim.DKIMException as error:
            return f"{type(error).__name__}: {error}"
    return f"no RSA signature of {domain.decode()}"
