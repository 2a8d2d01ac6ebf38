"""What came out, as Markdown."""
import os
import platform
from collections import Counter

from . import checker


# Who is killed has beaten a little before.
LAST_BEAT = 50_000_000


class Verdict:
    """Everything that is counted of one tool."""

    def __init__(self, tool, runs, faults, survivors, fenced):
        self.tool, self.faults, self.fenced = tool, faults, fenced
        self.runs = [run for run in runs if run.beats]
        self.overlaps = checker.overlaps(runs)
        self.seconds = sum(overlap.seconds for overlap in self.overlaps)
        self.misordered = checker.misordered(runs) if fenced else []
        self.done = sum(run.done for run in self.runs)
        self.killed = checker.killed(runs)
        spared = {run for fault in faults for run in fault.killed}
        windows = [(fault.begun, fault.ended) for fault in faults if fault.harmless]
        self.needless = checker.needless(runs, windows, spared)
        # A keeper whose guard is killed kills the tree and gives the lock back; that is no loss.
        released = {run for fault in faults if fault.kind == "guard killed -9" for run in fault.killed}
        self.closest = checker.closest(runs, released)
        self.codes = Counter(run.code for run in runs)
        self.survivors = survivors

    def good(self):
        return not self.overlaps and not self.misordered and not self.survivors

    def during(self, events, fault):
        """Those of the events (time in ns, thing) that fell between this fault and the next."""
        index = self.faults.index(fault)
        end = self.faults[index + 1].begun if index + 1 < len(self.faults) else float("inf")
        return [thing for when, thing in events if fault.begun <= when + LAST_BEAT < end]


def machine():
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} processors, {memory:.0f} GiB, Linux {platform.release()} {platform.machine()}"


def row(*cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def exits(codes):
    known = sorted((item for item in codes.items() if item[0] is not None))
    return ", ".join(f"{code}: {count}" for code, count in known)


def summary(verdicts):
    yield row("", *(f"`{verdict.tool}`" for verdict in verdicts))
    yield row("---", *("---:" for _ in verdicts))
    for title, cell in (
        ("overlapping pairs of runs", lambda v: len(v.overlaps)),
        ("time that two ran at once", lambda v: f"{v.seconds:.1f} s"),
        ("fences that did not grow", lambda v: len(v.misordered) if v.fenced else "has none"),
        ("runs killed by harmless faults", lambda v: len(v.needless)),
        ("runs in all", lambda v: len(v.runs)),
        ("… that came to their end", lambda v: v.done),
        ("… that were killed, by whomever", lambda v: len(v.killed)),
        ("shortest time from a lost run's last beat to the next run's first",
         lambda v: "they overlap" if v.overlaps else "–" if v.closest is None else f"{v.closest:.3f} s"),
        ("processes left at the end", lambda v: len(v.survivors)),
        ("exit codes (negative: died of that signal)", lambda v: exits(v.codes)),
    ):
        yield row(title, *(cell(verdict) for verdict in verdicts))


def by_fault(faults, verdicts):
    yield row("fault", "times", *(f"`{verdict.tool}`: overlaps, killed" for verdict in verdicts))
    yield row("---", "---:", *("---:" for _ in verdicts))
    for kind in sorted({fault.kind for fault in faults}):
        these = [fault for fault in faults if fault.kind == kind]
        cells = []
        for verdict in verdicts:
            overlaps = [o for f in these for o in verdict.during([(o.begun, o) for o in verdict.overlaps], f)]
            killed = [r for f in these for r in verdict.during([(r.beats[-1], r) for r in verdict.killed], f)]
            cells.append(f"{len(overlaps)} ({sum(o.seconds for o in overlaps):.1f} s), {len(killed)}")
        yield row(kind + (" (harmless)" if these[0].harmless else ""), len(these), *cells)


def by_shape(verdicts):
    shapes = sorted({run.shape for verdict in verdicts for run in verdict.runs if run.shape})
    yield row("tree", *(f"`{verdict.tool}`: runs, killed, overlaps" for verdict in verdicts))
    yield row("---", *("---:" for _ in verdicts))
    for shape in shapes:
        cells = []
        for verdict in verdicts:
            runs = [run for run in verdict.runs if run.shape == shape]
            overlaps = [overlap for overlap in verdict.overlaps if overlap.first.shape == shape]
            cells.append(f"{len(runs)}, {len(checker.killed(runs))}, {len(overlaps)}")
        yield row(shape, *cells)


def details(faults, verdict):
    """Each thing that should not be, with the fault that it happened in."""
    def where(when):
        started = [fault for fault in faults if fault.begun <= when]
        if not started:
            return "before any fault"
        return f"{(when - started[-1].begun) / 1e9:.1f} s into fault {len(started)} ({started[-1].kind})"

    for overlap in verdict.overlaps:
        yield (f"{verdict.tool}: {overlap.first.run} ({overlap.first.shape}) beat on beside {overlap.second.run} "
               f"({overlap.second.shape}) for {overlap.seconds:.3f} s, from {where(overlap.begun)}")
    for before, after in verdict.misordered:
        above = before and before.fence
        yield f"{verdict.tool}: {after.run} has fence {after.fence} after {above}, {where(after.beats[0])}"
    for run in verdict.needless:
        yield f"{verdict.tool}: {run.run} ({run.shape}) was killed needlessly (exit {run.code}), {where(run.beats[-1])}"
    for survivor in verdict.survivors:
        yield f"{verdict.tool}: left at the end: {survivor}"


def markdown(seed, command, setup, faults, verdicts, minutes):
    harmless = sum(fault.harmless for fault in faults)
    lines = [
        f"Made by `{command}`.",
        "",
        f"{len(faults)} faults ({harmless} of them harmless) in {minutes:.0f} minutes, on {machine()}.",
        setup,
        "",
        *summary(verdicts),
        "",
        *by_fault(faults, verdicts),
        "",
        *by_shape(verdicts),
    ]
    return "\n".join(lines) + "\n"
