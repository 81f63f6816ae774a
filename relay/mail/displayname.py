"""Addresses and domain names inside a display name, where they mislead a reader about the sender (ID-4)."""

from __future__ import annotations

import re
import unicodedata

_ADDRESS = re.compile(r"@\s?([\w-]{1,63}(?:\.[\w-]{1,63}){1,6})")
_HOST = re.compile(r"(?<![\w@.-])(?:https?://)?((?:[\w-]{2,63}\.){1,6}([a-z]{2,24}))(?![\w-])(?!\.[\w])")

# A dot in a name is not always a domain ("Node.js", "J.Jansen"): the last label must be a top-level domain that people know.
_NAMES = """
    com net org info biz eu edu gov mil int app dev io shop store online site xyz bank amsterdam frl vlaanderen brussels
    test example
    ac ad ae af ag ai al am ao ar at au az ba bb bd be bf bg bh bi bj bm bn bo br bs bt bw by bz ca cc cd cf cg ch ci cl
    cm cn co cr cu cv cw cx cy cz de dj dk dm dz ec ee eg es et fi fj fm fo fr ga gb gd ge gf gg gh gi gl gm gn gp gq gr
    gt gu gy hk hn hr ht hu id ie il im in iq ir is it je jm jo jp ke kg kh ki km kr kw ky kz la lb lc li lk lr ls lt lu
    lv ly ma mc md me mg mk ml mm mn mo mq mr mt mu mv mw mx my mz na ne ng ni nl no np nr nu nz om pa pe pg ph pk pl pm
    pn pr ps pt pw py qa re ro rs ru rw sa sb sc sd se sg si sk sl sm sn so sr st su sv sx sy sz tc td tf tg th tj tk tl
    tm tn to tr tt tv tw tz ua ug uk us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw
    """
_TOP = frozenset(_NAMES.split())
_TITLES = frozenset(
    ("dhr", "mevr", "mw", "mej", "fam", "fa", "gebr", "stg", "drs", "dr", "ir", "mr", "prof")
)  # "Dhr.de Jong"


def named_domains(display: str) -> list[str]:
    """Domains that a decoded display name holds, of addresses first; in lower case as written. Linear (MSG-11)."""
    lower = display[:1_000].lower()
    if not lower.isascii():
        lower = unicodedata.normalize("NFKC", lower)  # full-width letters read like others
    if "." not in lower:
        return []
    found = [match.rstrip(".") for match in _ADDRESS.findall(lower)] if "@" in lower else []
    found += [name for name, top in _HOST.findall(lower) if top in _TOP and not _is_title(name, lower)]
    return found


def _is_title(name: str, display: str) -> bool:
    """A person's or firm's title that is written on to "de", a word of Dutch family names; the name follows."""
    title, _, rest = name.partition(".")
    return rest == "de" and title in _TITLES and f"{name} " in display
