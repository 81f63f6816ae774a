#!/usr/bin/env python3
"""Check an export of a consent ledger, with nothing but Python 3.9 or newer.

    zegel consent export shop shop.jsonl
    python3 check_export.py shop.jsonl [--key HEX] [--anchor SEQ:HASH]

Says what it checked, or names the first line or event that does not hold and exits with 1. `--key` is the public key of the
gateway, from its operator and not from the file; `--anchor` is a head that its log told on an earlier day (ledger.anchored).
docs/ledger.md says what each check proves. Nothing is fetched, nothing is written.
"""

import argparse
import hashlib
import json
import struct
import sys

P = 2**255 - 19  # RFC 8032 section 5.1: Ed25519
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def add(a, b):
    """The sum of two points in extended coordinates (RFC 8032 section 5.1.4)."""
    e = (a[1] - a[0]) * (b[1] - b[0])
    f = (a[1] + a[0]) * (b[1] + b[0])
    g, h = 2 * a[3] * b[3] * D, 2 * a[2] * b[2]
    e, f, g, h = f - e, h - g, h + g, e + f
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(number, point):
    result = (0, 1, 1, 0)
    while number:
        if number & 1:
            result = add(result, point)
        point = add(point, point)
        number >>= 1
    return result


def point_of(octets):
    """The point that 32 octets stand for (RFC 8032 section 5.1.3), or None."""
    y = int.from_bytes(octets, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


BASE = point_of((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def is_signed(key, message, signature):
    """Whether `signature` is that of `key` over `message` (RFC 8032 section 5.1.7)."""
    if len(key) != 32 or len(signature) != 64:
        return False
    public, nonce, number = point_of(key), point_of(signature[:32]), int.from_bytes(signature[32:], "little")
    if public is None or nonce is None or number >= L:
        return False
    hashed = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    left, right = times(number, BASE), add(nonce, times(hashed, public))
    return not ((left[0] * right[2] - right[0] * left[2]) % P or (left[1] * right[2] - right[1] * left[2]) % P)


# What there is of an event whose content is gone.
PLACE = ("event_id", "expired_at", "prev_hash", "content_hash", "hash", "content")


class Wrong(Exception):
    pass


def read_statement(text):
    lines = text.split("\n")
    if len(lines) != 7 or lines[0] != "zegel consent export 1" or lines[6]:
        raise Wrong("the statement of the last line is of a form that this program does not know")
    names = ("tenant", "events", "head", "sha256", "made")
    found = dict(line.split(" ", 1) for line in lines[1:6])
    if tuple(found) != names:
        raise Wrong("the statement of the last line is of a form that this program does not know")
    return found


def check_event(event, previous, tenant_id, number):
    """The hash of one event. Raises Wrong."""
    if event["event_id"] != number:
        raise Wrong(f"event {number} is missing")
    if event["prev_hash"] != previous.hex():
        raise Wrong(f"event {number}: the hash of the event before does not match")
    content = bytes.fromhex(event["content_hash"])
    found = hashlib.sha256(previous + struct.pack("!QQ", tenant_id, number) + content).digest()
    if event["hash"] != found.hex():
        raise Wrong(f"event {number}: its hash does not match")
    if event["content"] is not None:
        check_content(event, content, number)
    elif any(value is not None for name, value in event.items() if name not in PLACE):
        raise Wrong(f"event {number}: its content is gone, and it still says something")
    return found


def check_content(event, digest, number):
    if hashlib.sha256(event["content"].encode()).digest() != digest:
        raise Wrong(f"event {number}: its content was changed")
    said = json.loads(event["content"])
    shown = (event["event"], event["purpose"] or "", event["recorded_by"])
    if (said[0], said[4], said[8]) != shown:
        raise Wrong(f"event {number}: what it shows is not what was hashed")
    for name, value in json.loads(said[5]).items():
        if event["schema_version" if name == "v" else name] != value:
            raise Wrong(f"event {number}: {name} is not what was hashed")
    if event["text"] is not None:
        text = f"{event['text_language']}\0{event['text']}"
        if hashlib.sha256(text.encode()).hexdigest() != event["text_hash"]:
            raise Wrong(f"event {number}: the text is not the one that was shown")
    elif event.get("text_hash"):
        raise Wrong(f"event {number}: its text is missing")


class Gone:
    """What the lines lack, until an event of the chain says that it was taken out (docs/ledger.md)."""

    def __init__(self, tenant_id):
        self.nobody = hashlib.sha256(f"gateway\0{tenant_id}".encode()).hexdigest()[:32]
        self.parts = []  # of each event, the parts that are not there
        self.people = {}  # of each event with names that are not there, whose they are
        self.erased = {}

    def look(self, event, number):
        """Note what this line lacks, and what it says of the lines before. Raises Wrong."""
        if event["content"] is None:
            self.parts.append(("content",))
            return
        said = json.loads(event["content"])
        lacks = tuple(name for name, place in (("personal", 6), ("evidence", 7)) if said[place] and event[name] is None)
        self.parts.append(lacks)
        if lacks:
            self.people[number] = said[2]
        if said[0] == "erased" and not said[3]:
            self.erased[said[2]] = self.erased.get(said[2], 0) + 1
        if said[0] == "expired":
            if said[2] != self.nobody:
                raise Wrong(f"event {number}: it is not about the gateway")
            self.take(json.loads(said[5]), number)

    def take(self, told, number):
        parts = ("evidence", "personal", "content")
        goes = {what: parts[: place + 1] for place, what in enumerate(parts)}
        for person in told.get("subjects", ()):
            self.erased[person] = self.erased.get(person, 0) + 1
        if told.get("kept"):
            self.erased[told["kept"]] = self.erased.get(told["kept"], 0) - 1
        for first, last in told.get("ranges", ()):
            if not 0 < first <= last < number:
                raise Wrong(f"event {number}: it tells of events that are not before it")
            for place in range(first - 1, last):
                self.parts[place] = tuple(part for part in self.parts[place] if part not in goes[told["what"]])

    def check(self):
        for number, parts in enumerate(self.parts, 1):
            if parts and self.erased.get(self.people.get(number), 0) <= 0:
                raise Wrong(f"event {number}: its {parts[0]} is gone, and no event of the chain says so")


def last_line(last, count, head):
    """The octets of the last line as its statement, key and signature make them: nothing else in it is signed."""
    told = {"head": {"seq": count, "hash": head} if count else None, "statement": last["statement"]}
    told.update((name, bytes.fromhex(last[name]).hex()) for name in ("key", "signature"))
    return (json.dumps(told) + "\n").encode()


def check(path, key="", anchor=""):
    """What was checked. Raises Wrong, OSError."""
    anchor_seq, _, anchor_hash = anchor.partition(":")
    digest, previous, count, expired, anchored = hashlib.sha256(), bytes(32), 0, 0, False
    with open(path, "rb") as file:
        lines = iter(file)
        line = next(lines, b"")
        tenant_id = tenant_of(path)
        gone = Gone(tenant_id)
        for following in lines:
            event = json.loads(line)
            count += 1
            previous = check_event(event, previous, tenant_id, count)
            gone.look(event, count)
            expired += event["content"] is None
            if anchor and str(count) == anchor_seq:
                anchored = True
                if previous.hex() != anchor_hash:
                    raise Wrong(f"event {count} is not the one that the anchor names: the chain was written anew")
            digest.update(line)
            line = following
        last = json.loads(line)
    said = read_statement(last["statement"])
    if key and last["key"] != key.lower():
        raise Wrong("the file is signed with another key than the one given")
    if not is_signed(bytes.fromhex(last["key"]), last["statement"].encode(), bytes.fromhex(last["signature"])):
        raise Wrong("the signature does not match")
    if (said["events"], said["head"], said["sha256"]) != (str(count), previous.hex(), digest.hexdigest()):
        raise Wrong("the file is not the one that was signed: a line was changed, added or taken out")
    if line != last_line(last, count, said["head"]):
        raise Wrong("the last line is not as the gateway writes it: something in it was changed or added")
    gone.check()
    if anchor and not anchored:
        raise Wrong("the event of the anchor is not in the file: events are missing at the end")
    return {"tenant": said["tenant"], "events": count, "expired": expired, "made": said["made"], "key": last["key"]}


def tenant_of(path):
    """The number of the tenant, which each hash has in it: from the last line."""
    last = b""
    with open(path, "rb") as file:
        for line in file:
            last = line
    return int(read_statement(json.loads(last)["statement"])["tenant"].split(" ")[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--key", default="", help="the public key of the gateway, in hex")
    parser.add_argument("--anchor", default="", metavar="SEQ:HASH", help="a head that was told before")
    options = parser.parse_args()
    try:
        found = check(options.file, options.key, options.anchor)
    except (Wrong, OSError) as error:
        print(f"WRONG: {error}")
        return 1
    except (ValueError, KeyError, TypeError, IndexError, struct.error):
        print("WRONG: this is not an export in JSON Lines, or it was cut off")
        return 1
    print(f"The chain of {found['events']} events holds, and the file is as it was signed on {found['made']}.")
    print(
        f"Tenant {found['tenant']}; key {found['key']}"
        + ("" if options.key else ", which you did not give: compare it")
    )
    if found["expired"]:
        print(f"{found['expired']} events have had their time: their place in the chain holds, their content is gone.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
