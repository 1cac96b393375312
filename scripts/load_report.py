"""What came of a load test, for people and for programs: a page, a JSON file, a plot of latency over rate."""

import html
import json
import os
import platform
import subprocess
import time
from pathlib import Path

import matplotlib as mpl
from ghz import PERCENTILES

mpl.use("Agg")
from matplotlib import pyplot  # noqa: E402 - after the backend is chosen

# Below this part of the rate that was asked for, ghz could not send what it was to.
KEPT_UP = 0.98
COLORS = {"p50_ms": "#4f9d69", "p95_ms": "#e0a02f", "p99_ms": "#d1495b"}
STYLE = """body { font: 15px/1.5 system-ui, sans-serif; max-width: 72em; margin: 2em auto; color: #24292f }
table { border-collapse: collapse; margin: 1em 0 }
th, td { padding: .25em .8em; text-align: right; border-bottom: 1px solid #d8dee4 }
th:first-child, td:first-child, td:last-child, th:last-child { text-align: left }
.failed { color: #b3261e; font-weight: 600 } .held { color: #2f7d4f } .free { color: #8c959f }
svg { max-width: 100%; height: auto }"""
HEAD = ["", "asked /s", "got /s", "calls", "errors", "p50 ms", "p95 ms", "p99 ms", "longest ms", "p99 by ghz ms", ""]


class Row:
    """One run of a recipe, held against its thresholds."""

    def __init__(self, target, recipe, calls, thresholds):
        self.target, self.recipe, self.thresholds = target, recipe, thresholds
        self.count, self.errors = calls.count, sum(calls.errors.values())
        self.codes, self.open_loop = calls.errors, calls.open_loop
        self.asked = calls.options.get("rps")
        self.got = calls.count / calls.seconds
        *percentiles, self.longest = calls.milliseconds((*PERCENTILES, 100))
        self.latency = dict(zip((f"p{at}_ms" for at in PERCENTILES), percentiles, strict=True))
        (self.p99_by_ghz,) = calls.milliseconds((99,), due=False)

    @property
    def kept_up(self):
        return not self.open_loop or self.got >= KEPT_UP * self.asked

    @property
    def failed(self):
        """Each threshold that did not hold, in words."""
        found = {"errors": self.errors, **self.latency}
        return [f"{name} {found[name]:.4g} > {limit}" for name, limit in self.thresholds.items() if found[name] > limit]

    @property
    def verdict(self):
        if self.failed:
            return ", ".join(self.failed)
        free = "" if len(self.thresholds) > 1 else "; latency is not gated"
        return f"held{free}" if self.kept_up else f"held{free}; ghz could not keep up"

    def cells(self):
        asked = f"{self.asked:,}" if self.open_loop else "as many as it can"
        numbers = [*self.latency.values(), self.longest, self.p99_by_ghz]
        counts = [f"{self.got:,.0f}", f"{self.count:,}", f"{self.errors:,}"]
        return [self.recipe, asked, *counts, *(f"{number:.2f}" for number in numbers)]

    def __str__(self):
        latency = "  ".join(f"{name[:-3]} {value:8.2f} ms" for name, value in self.latency.items())
        return f"{self.target:7} {self.recipe:16} {self.got:7,.0f}/s  {self.errors} errors  {latency}  {self.verdict}"

    def as_json(self):
        return {**vars(self), "failed": self.failed, "kept_up": self.kept_up}


def machine(program, busy):
    """Where it was measured, for whoever compares; `busy` is the load average before it began."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    version = "unknown version"
    if Path(program).exists():
        version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    system = f"{platform.system()} {platform.release()}, load average {busy:.1f} before it began"
    return f"{version}; {os.cpu_count()} cores, {model}; {system}"


def plot(rows, file):
    """Latency over rate, of the open loop."""
    targets = list(dict.fromkeys(row.target for row in rows))
    figure, axes = pyplot.subplots(1, len(targets), figsize=(6 * len(targets), 4.2), squeeze=False, sharey=True)
    for axis, target in zip(axes.flat, targets, strict=True):
        found = [row for row in rows if row.target == target and row.recipe.startswith("open-loop")]
        rates = [row.asked for row in found]
        for name, color in COLORS.items():
            latencies = [row.latency[name] for row in found]
            axis.plot(rates, latencies, color=color, marker="o", markersize=4, label=name[:-3])
        by_ghz = [row.p99_by_ghz for row in found]
        axis.plot(rates, by_ghz, color=COLORS["p99_ms"], linestyle=":", label="p99 as ghz counts it")
        if late := [row for row in found if not row.kept_up]:
            at = [row.asked for row in late], [row.latency["p99_ms"] for row in late]
            axis.plot(*at, "x", color="#24292f", markersize=9, label="ghz could not keep up")
        axis.set_title(f"{target}: Check, latency from when each call was due", fontsize=10, loc="left")
        axis.set_yscale("log")
        axis.set_xlabel("calls a second")
        axis.set_ylabel("ms")
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axis.grid(color="#d8dee4", linewidth=0.7)
        axis.legend(fontsize=8, frameon=False)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(file)
    pyplot.close(figure)


def page(rows, about, drawing):
    title = "withheld: load test"
    parts = [f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{STYLE}</style><h1>{title}</h1>"]
    parts.append(f"<p>{html.escape(about)}. {time.strftime('%Y-%m-%d %H:%M:%S %Z')}</p>")
    for target in dict.fromkeys(row.target for row in rows):
        head = "".join(f"<th>{name}" for name in HEAD)
        parts.append(f"<h2>{html.escape(target)}</h2><table><tr>{head}")
        for row in (row for row in rows if row.target == target):
            mood = "failed" if row.failed else "held" if len(row.thresholds) > 1 else "free"
            cells = "".join(f"<td>{html.escape(cell)}" for cell in row.cells())
            parts.append(f"<tr>{cells}<td class={mood}>{html.escape(row.verdict)}")
        parts.append("</table>")
    note = (
        "Where calls are sent at a rate, latencies count from when each call was due: what waits because of a stall"
        " counts, whether the service stalled or ghz. “By ghz” is from when ghz sent it."
    )
    return "".join([*parts, f"<p>{note}</p>", drawing])


def write(out, rows, program, busy):
    """report.html, report.json and latency.svg, into this directory."""
    plot(rows, out / "latency.svg")
    plot(rows, out / "latency.png")
    drawing = (out / "latency.svg").read_text()
    about = machine(program, busy)
    (out / "report.html").write_text(page(rows, about, drawing[drawing.index("<svg") :]))
    report = {"machine": about, "runs": [row.as_json() for row in rows]}
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
