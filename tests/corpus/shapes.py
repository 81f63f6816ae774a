"""Mail of many shapes, made from a seed: the same number gives the same octets. Every head has an own From or none."""

from __future__ import annotations

import base64
import quopri
from collections.abc import Callable
from random import Random

AUTHOR = "jan@sender.example"
Fields = list[bytes]

_WORDS = (
    "déjà", "vu", "naïef", "coördinatie", "€", "12,50", "straße", "žluťoučký", "привет", "你好",
    "hallo", "de", "mail", "gaat", "morgen", "weg", "want", "het", "is", "zo",
)  # fmt: skip
_ENCODINGS = ("7bit", "8bit", "quoted-printable", "base64")
_CHARSETS = ("utf-8", "iso-8859-15", "windows-1252", "koi8-r", "shift_jis", "iso-2022-jp", "gb18030", "utf-16", "big5")


def text(random: Random, lines: int, *, ascii_only: bool = False) -> str:
    """Some lines of words; now and then a blank one, a dot, a delimiter-like or a From line."""
    words = [word for word in _WORDS if word.isascii()] if ascii_only else _WORDS
    odd = ["", ".", "..", ". dot", "--", "-- ", "From here", "\ttab\t", "trailing  ", "=3D=", "a  b   c"]
    made = []
    for _ in range(lines):
        made.append(random.choice(odd) if random.random() < 0.2 else " ".join(random.choices(words, k=9)))
    return "".join(f"{line}\r\n" for line in made)


def head(random: Random, *more: bytes, stamps: bool = True) -> Fields:
    """The fields that every mail has, `more` after them; in an order of chance."""
    number = random.getrandbits(64)
    fields = [
        b"From: Jan Jansen <" + AUTHOR.encode() + b">",
        b"To: Piet <piet@receiver.example>",
        b"Subject: =?utf-8?B?" + base64.b64encode(" ".join(random.choices(_WORDS, k=3)).encode()) + b"?=",
    ]
    if stamps:
        fields += [b"Date: Fri, 02 Jan 2026 10:00:00 +0100", b"Message-ID: <%x@sender.example>" % number]
    random.shuffle(fields)
    return [*fields, *more]


def mail(fields: Fields, body: bytes) -> bytes:
    return b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body


def leaf(random: Random, kind: str = "text/plain") -> bytes:
    """A body part with its head: any charset and any encoding that can carry it."""
    charset, encoding = random.choice(_CHARSETS), random.choice(_ENCODINGS)
    content = text(random, random.randint(0, 12)).encode(charset, "replace")
    if encoding == "base64" or charset == "utf-16":
        encoding, content = "base64", base64.encodebytes(content).replace(b"\n", b"\r\n")
    elif encoding == "quoted-printable":
        content = quopri.encodestring(content.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
    elif encoding == "7bit":
        charset, content = "us-ascii", text(random, 5, ascii_only=True).encode()
    declared = f"Content-Type: {kind}; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n"
    return declared.encode() + b"\r\n" + content


def multipart(random: Random, kind: str, parts: list[bytes], *, closed: bool = True, extra: str = "") -> bytes:
    """A multipart with its head; preamble and epilogue now and then."""
    boundary = random.choice(["=_b%d", "'()+_,-./:=?%d", "b %d x", "----=_NextPart_000_%d.01"]) % random.getrandbits(32)
    pieces = [f'Content-Type: {kind};\r\n boundary="{boundary}"{extra}\r\n\r\n'.encode()]
    if random.random() < 0.3:
        pieces.append(b"This is a preamble.\r\n")
    for part in parts:
        end = b"" if part.endswith(b"\r\n") or random.random() < 0.3 else b"\r\n"
        pieces.append(b"--" + boundary.encode() + random.choice([b"", b" ", b"\t "]) + b"\r\n" + part + end + b"\r\n")
    if closed:
        pieces.append(b"--" + boundary.encode() + b"--\r\n")
        if random.random() < 0.2:
            pieces.append(b"epilogue\r\n")
    return b"".join(pieces)


def whole(random: Random, entity: bytes, *more: bytes) -> bytes:
    """A message of `entity`, a body part with its head."""
    return b"".join(f + b"\r\n" for f in head(random, *more, b"MIME-Version: 1.0")) + entity


# -- shapes -----------------------------------------------------------------------------------------------------------


def plain(random: Random) -> bytes:
    return mail(head(random), text(random, random.randint(1, 40), ascii_only=True).encode())


def no_stamps(random: Random) -> bytes:
    return mail(head(random, stamps=False), text(random, 3, ascii_only=True).encode())


def nested(random: Random) -> bytes:
    entity = leaf(random)
    for _ in range(random.randint(1, 12)):
        kind = "multipart/" + random.choice(["mixed", "alternative", "related", "parallel", "x-odd"])
        siblings = [leaf(random, random.choice(["text/html", "text/x-diff", "application/octet-stream"]))]
        entity = multipart(random, kind, [*siblings, entity] if random.random() < 0.7 else [entity])
    return whole(random, entity)


def unclosed(random: Random) -> bytes:
    return whole(random, multipart(random, "multipart/mixed", [leaf(random), leaf(random)], closed=False))


def charset(random: Random) -> bytes:
    return whole(random, leaf(random))


def unknown_charset(random: Random) -> bytes:
    octets = bytes(random.choices([octet for octet in range(32, 256) if octet != 127], k=300))
    kind = b"Content-Type: text/plain; charset=x-unknown\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    return whole(random, kind + octets + b"\r\n")


def bare_8bit(random: Random) -> bytes:
    return mail(head(random), text(random, 8).encode(random.choice(["utf-8", "utf-8", "iso-8859-15"]), "replace"))


def utf8_head(random: Random) -> bytes:
    names = (
        f"Subject: {random.choice(_WORDS)} ünïcödé",
        "Comments: 你好, 世界",
        'Reply-To: "Zoë" <zoe@sender.example>',
    )
    fields = [field for field in head(random) if not field.startswith(b"Subject")]
    return mail([*fields, *(name.encode() for name in names)], text(random, 4).encode())


def long_lines(random: Random) -> bytes:
    line = "".join(random.choices("abcdefgh é<>=.", k=random.randint(999, 6000)))
    kind = random.choice(["text/plain", "text/html"])
    declared = f"MIME-Version: 1.0\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Transfer-Encoding: 8bit".encode()
    return mail(head(random, declared), f"before\r\n{line}\r\n.{line[:1200]}\r\nafter\r\n".encode())


def line_at_the_limit(random: Random) -> bytes:
    return mail(
        head(random), b"".join(b"y" * length + b"\r\n" for length in (997, 998, random.choice([998, 999, 1000])))
    )


def long_head(random: Random) -> bytes:
    ids = b" ".join(b"<%x@sender.example>" % random.getrandbits(128) for _ in range(random.randint(24, 60)))
    return mail(head(random, b"References: " + ids, b"X-Long: " + b"word " * random.randint(200, 900)), b"hi\r\n")


def folded(random: Random) -> bytes:
    more = (
        b"X-Folded: one\r\n two\r\n\tthree\r\n   four",
        b"X-Empty:",
        b"X-Only-Fold:\r\n value",
        b"X-Tight:value",
        b"X-Blank: a  b \t c   ",
        b"x-LOWER: Mixed",
        b"X-Colon: a:b:c: d",
    )
    return mail(head(random, *random.sample(more, k=5)), text(random, 3, ascii_only=True).encode())


def space_before_colon(random: Random) -> bytes:
    return mail(head(random, b"X-Old : obsolete syntax", b"Keywords\t: one, two"), b"hi\r\n")


def repeated_fields(random: Random) -> bytes:
    more = [b"Received: from a by b; Fri, 02 Jan 2026 09:00:0%d +0100" % n for n in range(random.randint(1, 9))]
    more += [b"X-Note: %d" % n for n in range(3)] + [b"Comments: a", b"Comments: b"]
    return mail([*more, *head(random)], b"hi\r\n")


def signed(random: Random) -> bytes:
    protocol = random.choice(["application/pgp-signature", "application/pkcs7-signature"])
    part = leaf(random)
    seal = b"Content-Type: " + protocol.encode() + b"; name=s\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    seal += base64.encodebytes(random.randbytes(300)).replace(b"\n", b"\r\n")
    extra = f';\r\n protocol="{protocol}"; micalg=pgp-sha256'
    entity = multipart(random, "multipart/signed", [part, seal], extra=extra)
    if random.random() < 0.4:
        entity = multipart(random, "multipart/mixed", [entity, leaf(random)])
    return whole(random, entity)


def signed_long_line(random: Random) -> bytes:
    part = b"Content-Type: text/plain\r\n\r\n" + b"z" * random.randint(999, 3000) + b"\r\n"
    seal = b"Content-Type: application/pgp-signature\r\n\r\n-----BEGIN PGP SIGNATURE-----\r\n"
    return whole(random, multipart(random, "multipart/signed", [part, seal]))


def encrypted(random: Random) -> bytes:
    control = b"Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n"
    data = b"Content-Type: application/octet-stream\r\n\r\n-----BEGIN PGP MESSAGE-----\r\n\r\n"
    data += base64.encodebytes(random.randbytes(600)).replace(b"\n", b"\r\n")
    return whole(random, multipart(random, "multipart/encrypted", [control, data]))


def smime_opaque(random: Random) -> bytes:
    kind = random.choice([b"signed-data", b"enveloped-data"])
    more = b"Content-Type: application/pkcs7-mime; smime-type=" + kind + b"; name=smime.p7m"
    data = base64.encodebytes(random.randbytes(900)).replace(b"\n", b"\r\n")
    return whole(random, b"Content-Transfer-Encoding: base64\r\n\r\n" + data, more)


def calendar(random: Random) -> bytes:
    lines = (
        "BEGIN:VCALENDAR METHOD:REQUEST BEGIN:VEVENT UID:1@sender.example SUMMARY:Overleg-é END:VEVENT END:VCALENDAR"
    )
    part = b"Content-Type: text/calendar; method=REQUEST; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    part += "".join(f"{line}\r\n" for line in lines.split()).encode()
    return whole(random, multipart(random, "multipart/alternative", [leaf(random), part]))


def empty_body(random: Random) -> bytes:
    return mail(head(random), random.choice([b"", b"\r\n", b"\r\n\r\n\r\n", b" \r\n\t\r\n"]))


def head_only(random: Random) -> bytes:
    return b"".join(field + b"\r\n" for field in head(random))


def dots(random: Random) -> bytes:
    lines = [b".", b"..", b"...", b".a", b"", b". ", b"a.", b"." * 70]
    return mail(head(random), b"".join(random.choice(lines) + b"\r\n" for _ in range(40)))


def no_final_line_end(random: Random) -> bytes:
    return mail(head(random), text(random, 3, ascii_only=True).encode() + random.choice([b"the end", b".", b"x "]))


def trailing_blanks(random: Random) -> bytes:
    return mail(head(random), b"a \t b  \r\n \r\n\tx\t\r\n" + random.choice([b"\r\n", b" \r\n"]) * random.randint(1, 9))


def attachment(random: Random) -> bytes:
    size = 750_000 if random.random() < 0.1 else random.randint(1, 60_000)
    data = base64.encodebytes(random.randbytes(size)).replace(b"\n", b"\r\n")
    part = b'Content-Type: application/pdf; name="a.pdf"\r\nContent-Transfer-Encoding: base64\r\n'
    part += b"Content-Disposition: attachment; filename*=utf-8''caf%C3%A9.pdf\r\n\r\n" + data
    return whole(random, multipart(random, "multipart/mixed", [leaf(random), part]))


def forwarded(random: Random) -> bytes:
    inner = random.choice([charset, nested, bare_8bit, signed])(random)
    encoding = b"8bit" if not inner.isascii() else b"7bit"
    part = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: " + encoding + b"\r\n\r\n" + inner
    return whole(random, multipart(random, "multipart/mixed", [leaf(random), part]))


def report(random: Random) -> bytes:
    status = b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; a.example\r\n\r\n"
    status += b"Final-Recipient: rfc822; x@a.example\r\nAction: failed\r\nStatus: 5.1.1\r\n"
    entity = multipart(random, "multipart/report", [leaf(random), status], extra="; report-type=delivery-status")
    return whole(random, entity)


def taken_out(random: Random) -> bytes:
    more = [
        b"Bcc: secret@receiver.example",
        b"Return-Path: <x@y.example>",
        b"Content-Length: 12",
        b"Feedback-ID: a:b:c:d",
        b"CFBL-Address: fbl@other.example",
        b"X-Zegel-Anything: 1",
        b"Authentication-Results: gateway.example; spf=pass",
        b"Resent-Bcc: x@receiver.example",
    ]
    return mail(head(random, *random.sample(more, k=4)), b"hi\r\n")


def exposed(random: Random) -> bytes:
    """Twelve outsiders in sight: each gets a copy of its own (CC-8), and foreign signatures are renamed (CC-17)."""
    people = [b"p%d@party%d.example" % (n, n) for n in range(random.randint(10, 14))]
    fields = [field for field in head(random) if not field.startswith(b"To:")]
    half = len(people) // 2
    fields += [b"To: " + b",\r\n ".join(people[:half]), b"Cc: " + b", ".join(people[half:])]
    if random.random() < 0.5:
        fields.insert(0, b"DKIM-Signature: v=1; a=rsa-sha256; d=other.example; s=x; h=from;\r\n bh=AAAA; b=AAAA")
    return mail(fields, text(random, 4).encode())


SHAPES: tuple[Callable[[Random], bytes], ...] = (
    plain, no_stamps, nested, unclosed, charset, unknown_charset, bare_8bit, utf8_head, long_lines, line_at_the_limit,
    long_head, folded, space_before_colon, repeated_fields, signed, signed_long_line, encrypted, smime_opaque, calendar,
    empty_body, head_only, dots, no_final_line_end, trailing_blanks, attachment, forwarded, report, taken_out, exposed,
)  # fmt: skip


def make(number: int) -> tuple[str, bytes]:
    """Name and octets of mail `number`; the shapes take turns."""
    shape = SHAPES[number % len(SHAPES)]
    return f"{shape.__name__}-{number}", shape(Random(number))
