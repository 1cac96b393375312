"""Flips bits of an export and holds that clients/auditor/verify.py finds each: flips.py EXPORT.jsonl VKEY PROTO."""

import runpy
import sys
from pathlib import Path

v = runpy.run_path(str(Path(__file__).resolve().parent.parent.parent / "clients" / "auditor" / "verify.py"))
export, vkey, proto = sys.argv[1:]
data = Path(export).read_bytes()
trusted, decoder = [v["verifier"](vkey)], v["Decoder"](Path(proto).read_text(encoding="utf-8"))


def found(data):
    """What is found, if anything."""
    try:
        v["verify"](data.removesuffix(b"\n").split(b"\n"), trusted, decoder)
    except v["Bad"] as error:
        return str(error)
    return None


if said := found(data):
    sys.exit(said)
flips = 0
for at, byte in enumerate(data):
    line = 1 + data.count(b"\n", 0, at)
    # Every bit where the same can be written in two ways: at the end of Base64, and in what JSON escapes.
    both_ways = b"=" in data[at : at + 3] or b"\\" in data[max(at - 5, 0) : at + 1]
    for bit in range(8) if both_ways else {at % 8, (at + 3) % 8, (at * 5 + 1) % 8}:
        bent = data[:at] + bytes([byte ^ 1 << bit]) + data[at + 1 :]
        said = found(bent)
        if not said or not said.startswith(f"line {line}"):
            sys.exit(f"bit {bit} of byte {at}, line {line}, {data[at - 20 : at + 20]}: {said}")
        flips += 1
print(f"{flips} flips in {len(data)} bytes, each found and its line named")
