"""Runs a recipe of deploy/ghz and reads what came of it. Knows ghz and its reports, not what is asked of the service.

Two things in ghz's reports are not what they seem:

- A latency begins when gRPC begins the call. Where calls are due at a rate, ghz may itself be late, and what a stall
  keeps from being sent on time looks fast. So in an open loop latencies are counted from when each call was **due**.
- ghz hears from gRPC of every *attempt*. A call that a service configuration retries is counted once for each.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "target/tools/go/ghz"
RECIPES = ROOT / "deploy/ghz"
PERCENTILES = (50, 95, 99)


class Run:
    """ghz, running a recipe against a host."""

    def __init__(self, recipe, host, out, flags=(), **settings):
        self.out = Path(out)
        self.out.parent.mkdir(parents=True, exist_ok=True)
        named = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        files = [f"--config={RECIPES / recipe}.json", "--format=json", f"--output={self.out}"]
        self.process = subprocess.Popen(
            [PROGRAM, *files, *named, *flags, host],
            cwd=ROOT,
            env={**os.environ, "TZ": "UTC"},
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self):
        """Waits for it, and gives what came of it. Its report stays, without the single calls and their data."""
        _, said = self.process.communicate()
        if self.process.returncode != 0:
            raise SystemExit(f"ghz failed: {said.strip()}")
        report = json.loads(self.out.read_text())
        calls = Calls(report)
        report["options"].pop("data", None)
        self.out.write_text(json.dumps({**report, "details": []}, indent=1))
        return calls


class Calls:
    """The calls of a run: when they began and ended, in nanoseconds, in the order of their beginning."""

    def __init__(self, report):
        self.report, self.options = report, report["options"]
        details = report["details"] or []
        ended = np.array([np.datetime64(call["timestamp"].rstrip("Z"), "ns") for call in details]).astype(np.int64)
        took = np.array([call["latency"] for call in details], dtype=np.int64)
        good = np.array([call["status"] == "OK" for call in details], dtype=bool)
        order = np.argsort(ended - took, kind="stable")
        self.began, self.ended, self.good = (ended - took)[order], ended[order], good[order]

    @property
    def count(self):
        return len(self.began)

    @property
    def errors(self):
        """By gRPC's code."""
        return {code: count for code, count in self.report["statusCodeDistribution"].items() if code != "OK"}

    @property
    def open_loop(self):
        return bool(self.options.get("async") and self.options.get("rps"))

    @property
    def seconds(self):
        return float(self.ended.max() - self.began.min()) / 1e9

    def milliseconds(self, percentiles, due=None):
        """Of the calls' latencies; from when they were due, in an open loop and unless that is not wanted."""
        begin = self.due() if (self.open_loop if due is None else due) else self.began
        return [float(found) / 1e6 for found in np.percentile(self.ended - begin, percentiles)]

    def due(self):
        """When calls would have begun at exactly the rate, the one that was least late being on time."""
        schedule = np.arange(self.count, dtype=np.int64) * (1_000_000_000 // self.options["rps"])
        return schedule + np.min(self.began - schedule)

    def longest_stall(self):
        """The longest time in which no call was answered well, in seconds, and when it began, in Unix seconds."""
        answered = np.sort(self.ended[self.good])
        gaps = np.diff(answered)
        at = int(np.argmax(gaps))
        return float(gaps[at]) / 1e9, float(answered[at]) / 1e9
