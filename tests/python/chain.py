"""Checks a hash chain with nothing of withheld's own: chain.py FILE, a line `name payload hash` an entry, in hex."""

import hashlib
import sys
from pathlib import Path

before = bytes(32)
entries = [line.split() for line in Path(sys.argv[1]).read_text().splitlines()]
for name, payload, written in entries:
    before = hashlib.sha256(b"withheld.journal.v1\n" + before + bytes.fromhex(payload)).digest()
    if before.hex() != written:
        sys.exit(f"{name}: the hash should be {before.hex()}")
print(f"{len(entries)} entries")
