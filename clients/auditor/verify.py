#!/usr/bin/env python3
"""Verifies an export of the record with nothing of withheld's own: Python's standard library and one .proto file.

    verify.py EXPORT.jsonl… [--trust VKEY]… [--proto journal.proto]

EXPORT.jsonl is what `withheld journal export` writes; an export that was made in parts is given in parts, in order.
VKEY is a verifier key of the service, which you have from its operators, not from the export. Exit code 0: everything
holds.

What is checked, and where the rules are written down:

1. The chain (README, "How it works"): the hash of entry N is SHA-256("withheld.journal.v1\\n", hash N-1, payload N),
   where the hash before the first entry is 32 zero bytes, and revisions are 1, 2, 3 …
2. The readable form: `entry` is what `payload` says by journal.proto, in protobuf's own JSON. It is made anew, and
   compared.
3. Each checkpoint: a signed note (c2sp.org/signed-note) by a key that is trusted, whose text
   (c2sp.org/tlog-checkpoint) is the name, a revision and the hash of that entry in Base64. The chain has to have that
   hash there.
"""

import argparse
import base64
import functools
import hashlib
import json
import re
import sys
from datetime import datetime, timedelta
from pathlib import Path

PROTO = Path(__file__).resolve().parent.parent.parent / "proto" / "withheld" / "journal" / "v1" / "journal.proto"


class Bad(Exception):
    """Something in the export is not what it says."""


def unbase64(text):
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise Bad("this is no Base64 as it is written")
    return data


# Protobuf: the messages and enums of a .proto file, and bytes read by them (protobuf.dev/programming-guides/encoding).


def read_proto(text):
    """The messages, each with its fields by number, and the enums, each with its names by number."""
    messages, enums, fields, names = {}, {}, None, None
    for line in map(str.strip, re.sub(r"//.*", "", text).splitlines()):
        if block := re.fullmatch(r"(message|enum) (\w+) \{", line):
            fields = messages.setdefault(block[2], {}) if block[1] == "message" else None
            names = enums.setdefault(block[2], {}) if block[1] == "enum" else None
        elif names is not None and (value := re.fullmatch(r"(\w+) = (\d+);", line)):
            names[int(value[2])] = value[1]
        elif fields is not None and (
            field := re.fullmatch(r"(?:(repeated|optional) )?(map<(\w+), (\w+)>|[\w.]+) (\w+) = (\d+);", line)
        ):
            fields[int(field[6])] = (field[5], field[1], field[2], field[3], field[4])
        elif line and not re.fullmatch(r"oneof \w+ \{|\}|(syntax|package|import) .*;", line):
            raise Bad(f"this .proto file has a line that is not understood: `{line}`")
    return messages, enums


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 0x7F) << shift, shift + 7, at + 1
        if byte < 0x80:
            return value, at


def wire(data):
    """The fields of a message: number, wire type and value of each."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind == 1:
            value, at = int.from_bytes(data[at : at + 8], "little"), at + 8
        elif kind == 2:
            length, at = varint(data, at)
            value, at = data[at : at + length], at + length
        else:
            raise Bad(f"wire type {kind} is not used here")
        if at > len(data):
            raise Bad("the message ends too early")
        yield tag >> 3, kind, value


def timestamp(data):
    """As protobuf's JSON has it: with 0, 3, 6 or 9 digits after the second."""
    parts = {number: value for number, _, value in wire(data)}
    seconds, nanos = parts.get(1, 0), parts.get(2, 0)
    seconds -= (1 << 64) if seconds >= 1 << 63 else 0
    text = (datetime(1970, 1, 1) + timedelta(seconds=seconds)).isoformat()
    digits = f"{nanos:09}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return text + (f".{digits}Z" if digits else "Z")


SCALARS = {
    "bool": bool,
    "bytes": lambda value: base64.b64encode(value).decode(),
    "fixed64": str,
    "google.protobuf.Timestamp": timestamp,
    "sint64": lambda value: str((value >> 1) ^ -(value & 1)),
    "string": bytes.decode,
    "uint32": int,
    "uint64": str,
}


class Decoder:
    """Makes of bytes what protobuf's JSON would show, by field names as in the .proto file."""

    def __init__(self, proto):
        self.messages, self.enums = read_proto(proto)

    def scalar(self, kind, value):
        if kind in self.messages:
            return self.message(kind, value)
        if kind in self.enums:
            return self.enums[kind].get(value, value)
        if kind not in SCALARS:
            raise Bad(f"the type `{kind}` is not known here")
        return SCALARS[kind](value)

    def packed(self, kind, data):
        at = 0
        while at < len(data):
            if kind == "fixed64":
                value, at = int.from_bytes(data[at : at + 8], "little"), at + 8
            else:
                value, at = varint(data, at)
            yield self.scalar(kind, value)

    def message(self, name, data):
        fields, out = self.messages[name], {}
        for number, kind, value in wire(data):
            if number not in fields:
                raise Bad(f"{name} has a field {number} that the .proto file does not know: is it an older one?")
            field, label, declared, key, to = fields[number]
            if key:
                pair = {n: v for n, _, v in wire(value)}
                empty = b"" if to in ("string", "bytes") else 0
                out.setdefault(field, {})[str(pair.get(1, 0))] = self.scalar(to, pair.get(2, empty))
            elif label == "repeated" and kind == 2 and declared not in ("string", "bytes", *self.messages):
                out.setdefault(field, []).extend(self.packed(declared, value))
            elif label == "repeated":
                out.setdefault(field, []).append(self.scalar(declared, value))
            else:
                out[field] = self.scalar(declared, value)
        return out


# Ed25519, verification only (RFC 8032, 5.1.7): points of -x² + y² = 1 + d·x²·y² modulo P, as (X, Y, Z, T).

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def add(one, other):
    a = (one[1] - one[0]) * (other[1] - other[0]) % P
    b = (one[1] + one[0]) * (other[1] + other[0]) % P
    c, d = 2 * one[3] * other[3] * D % P, 2 * one[2] * other[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(factor, point):
    product = (0, 1, 1, 0)
    while factor:
        if factor & 1:
            product = add(product, point)
        point, factor = add(point, point), factor >> 1
    return product


def point(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * ROOT % P
    if x * x % P != square or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


BASE = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


@functools.cache
def signed(public, message, signature):
    """Whether the key has signed the message."""
    if len(signature) != 64 or (key := point(public)) is None or (r := point(signature[:32])) is None:
        return False
    s = int.from_bytes(signature[32:], "little")
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % ORDER
    if s >= ORDER:
        return False
    left, right = times(s, BASE), add(r, times(k, key))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0


# Signed notes and checkpoints.


def verifier(vkey):
    """The name, the hash and the public key of NAME+HASH+BASE64."""
    try:
        name, key_id, data = vkey.split("+", 2)
        data = unbase64(data)
    except (ValueError, Bad):
        raise Bad(f"`{vkey}` is no verifier key") from None
    computed = hashlib.sha256(name.encode() + b"\n" + data).digest()[:4]
    if len(data) != 33 or data[0] != 1 or computed.hex() != key_id:
        raise Bad(f"`{vkey}` is no verifier key")
    return name, computed, data[1:]


def open_note(note, trusted):
    """The revision and the hash that a trusted key has signed."""
    text, _, signatures = note.rpartition("\n\n")
    text += "\n"
    if not signatures.endswith("\n"):
        raise Bad("the checkpoint is no signed note")
    by = None
    for line in signatures[:-1].split("\n"):
        mark = re.fullmatch("\u2014 ([^ +]+) ([A-Za-z0-9+/=]+)", line)
        if not mark or len(data := unbase64(mark[2])) < 5:
            raise Bad("a signature of the checkpoint is not in the form of one")
        for name, key_id, public in trusted:
            if (name, key_id) == (mark[1], data[:4]):
                if not signed(public, text.encode(), data[4:]):
                    raise Bad(f"the checkpoint is not what `{name}` has signed")
                by = name
    if by is None:
        raise Bad("the checkpoint is not signed by a key that is trusted")
    origin, revision, digest, *_ = text.split("\n")
    if origin != by or str(int(revision)) != revision:
        raise Bad("what is signed is no checkpoint of this journal")
    return int(revision), unbase64(digest).hex()


# The export.


def check_line(text, position, decoder):
    """The note of a line with a checkpoint, or the place after the entry of another line."""
    line = json.loads(text)
    # Only in the one way to write it: what is written twice or otherwise may be read otherwise elsewhere.
    if json.dumps(line, ensure_ascii=False, separators=(",", ":")) != text:
        raise Bad("the line is not as `withheld journal export` writes it")
    if list(line) == ["checkpoint"]:
        return line["checkpoint"], position
    if list(line) != ["revision", "hash", "payload", "entry"]:
        raise Bad("the line is neither an entry nor a checkpoint")
    revision, before = position
    if line["revision"] != str(revision + 1):
        raise Bad(f"entry {revision + 1} should be here, and this is entry {line['revision']}")
    payload = unbase64(line["payload"])
    after = hashlib.sha256(b"withheld.journal.v1\n" + bytes.fromhex(before) + payload).hexdigest()
    if after != line["hash"]:
        raise Bad(f"entry {revision + 1}: its hash should be {after}")
    if decoder.message("Entry", payload) != line["entry"]:
        raise Bad(f"entry {revision + 1}: its readable form is not what its payload says")
    return None, (revision + 1, after)


def verify(lines, trusted, decoder):
    """How many entries and checkpoints there are, and the last hash; `Bad` names the first line that is wrong."""
    position, hashes, notes = (0, bytes(32).hex()), {0: bytes(32).hex()}, []
    for number, text in enumerate(lines, 1):
        try:
            note, position = check_line(text.decode(), position, decoder)
        except (Bad, ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
            raise Bad(f"line {number} (after entry {position[0]}): {error}") from None
        hashes[position[0]] = position[1]
        notes += [(number, note)] if note is not None else []
    if notes and not trusted:
        raise Bad(f"there are {len(notes)} checkpoints, and no --trust VKEY says whose signatures to believe")
    for number, note in notes:
        try:
            revision, digest = open_note(note, trusted)
        except (Bad, ValueError, TypeError, AttributeError) as error:
            raise Bad(f"line {number}: {error}") from None
        if hashes.get(revision) != digest:
            found = hashes.get(revision, f"no entry: they end at {position[0]}")
            raise Bad(f"line {number}: the checkpoint says that entry {revision} has hash {digest}; there is {found}")
    return position[0], len(notes), position[1]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("export", nargs="+", type=Path)
    arguments.add_argument("--trust", action="append", default=[], metavar="VKEY")
    arguments.add_argument("--proto", type=Path, default=PROTO)
    given = arguments.parse_args()

    def lines():
        for path in given.export:
            with path.open("rb") as file:
                for text in file:
                    yield text.removesuffix(b"\n")

    try:
        decoder = Decoder(given.proto.read_text(encoding="utf-8"))
        entries, checkpoints, last = verify(lines(), [verifier(vkey) for vkey in given.trust], decoder)
    except (Bad, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"{entries} entries and {checkpoints} checkpoints hold; the last entry has hash {last}")


if __name__ == "__main__":
    main()
