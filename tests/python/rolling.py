"""A timeline service with the service configuration that is shipped: asks several replicas until its input ends.

rolling.py HOST:PORT,HOST:PORT,…
Account 1 is withheld in India, account 2 is not. Says `asking` once it has been answered, and at the end, as JSON: how
many requests were made, which errors or wrong verdicts came of them, and the longest wait in milliseconds.
"""

import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "scripts"))
from caller import Caller, stubs  # noqa: E402 - it is found only now
from stage import until  # noqa: E402

CALLERS = 8


def main(addresses):
    with tempfile.TemporaryDirectory() as out:
        modules = stubs(out)
        asking = [Caller(addresses.split(","), modules, [1, 2], withheld=[0]) for _ in range(CALLERS)]
        until("all are answered", lambda: all(one.done > 0 for one in asking))
        print("asking", flush=True)
        sys.stdin.read()
        for one in asking:
            one.end()
    errors = [error for one in asking for error in one.errors]
    result = {
        "requests": sum(one.done for one in asking) + len(errors),
        "errors": errors,
        "longest_ms": round(max(one.longest for one in asking) * 1000),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
