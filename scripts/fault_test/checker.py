"""Judges a history: did two runs of one tool work at the same time, and did the fences grow?

Pure: from the lines that the sections and the workers wrote to verdicts; no clock, no process, no Consul.
"""
import json
from collections import namedtuple

# Beats further apart than this are a pause (a stopped process, a starved machine), not work.
PAUSE = 250_000_000
# A beat stands for the time to the next one.
BEAT = 10_000_000

Run = namedtuple("Run", "run tool host shape begun ended code beats fence done")
Run.__doc__ = """A run of a tool. `begun` and `ended` are the tool's process, `beats` the sorted times of the section's
beats (all in ns), `done` whether the section came to its own end; `code` and `ended` are None where the tool ran on."""
Overlap = namedtuple("Overlap", "first second begun seconds")
Overlap.__doc__ = """Two runs at work at the same time, from `begun` (ns), together for so many seconds."""


def read(beats, runs):
    """The runs in these files' lines, in the order of their first beats; runs without a beat come last."""
    found = {}
    for line in beats:
        parts = line.split()
        if len(parts) != 5 or parts[0] not in "BE":
            raise ValueError(f"no beat: {line!r}")
        kind, when, run, fence, _pid = parts
        entry = found.setdefault(run, {"beats": [], "fence": fence, "done": False})
        entry["beats"].append(int(when))
        entry["done"] |= kind == "E"
    known = {}
    for line in runs:
        record = json.loads(line)
        known[record["run"]] = record
    result = []
    for run in {**found, **known}:
        entry = found.get(run, {"beats": [], "fence": "-", "done": False})
        record = known.get(run, {"tool": None, "host": None, "shape": None, "begun": None, "ended": None, "code": None})
        result.append(Run(run, record["tool"], record["host"], record["shape"], record["begun"], record["ended"],
                          record["code"], sorted(entry["beats"]), entry["fence"], entry["done"]))
    return sorted(result, key=lambda run: (not run.beats, run.beats[:1], run.run))


def stretches(beats):
    """The times of work in the beats: (from, to) without the pauses."""
    result = []
    for when in beats:
        if result and when - result[-1][1] <= PAUSE:
            result[-1] = (result[-1][0], when)
        else:
            result.append((when, when))
    return [(begin, end + BEAT) for begin, end in result]


def common(one, other):
    """For how many nanoseconds both worked."""
    return sum(max(0, min(a[1], b[1]) - max(a[0], b[0])) for a in stretches(one) for b in stretches(other))


def overlaps(runs):
    """Every pair of runs of which one beat before the other's last beat and after its first."""
    result = []
    working = sorted((run for run in runs if run.beats), key=lambda run: run.beats[0])
    for index, first in enumerate(working):
        for second in working[index + 1:]:
            if second.beats[0] > first.beats[-1]:
                # Those that began later can still overlap with a longer one, but not with this one.
                break
            result.append(Overlap(first, second, second.beats[0], common(first.beats, second.beats) / 1e9))
    return result


def misordered(runs):
    """Runs whose fence is none, or not above all before it in the order of first beats; each after the one before."""
    working = sorted((run for run in runs if run.beats), key=lambda run: run.beats[0])
    result = []
    greatest = None
    for run in working:
        if not run.fence.isdigit():
            result.append((greatest, run))
            continue
        if greatest is not None and int(run.fence) <= int(greatest.fence):
            result.append((greatest, run))
        if greatest is None or int(run.fence) > int(greatest.fence):
            greatest = run
    return result


def killed(runs):
    """The runs whose section began and was ended by somebody else."""
    return [run for run in runs if run.beats and not run.done]


def needless(runs, windows, spared=()):
    """The killed runs that worked when a harmless fault began and stopped within its window; `windows` in ns. The runs
    that the nemesis itself killed are named in `spared`."""
    return [run for run in killed(runs) if run.run not in spared
            and any(begin <= run.beats[-1] <= end for begin, end in windows)]


def closest(runs, released=()):
    """The shortest pause, in seconds, between a killed run's last beat and the next run's first; None without one.
    Runs named in `released` do not count: their tool gave the lock back on purpose."""
    working = sorted((run for run in runs if run.beats), key=lambda run: run.beats[0])
    pauses = [(after.beats[0] - before.beats[-1]) / 1e9 for before, after in zip(working, working[1:])
              if not before.done and before.run not in released]
    return min(pauses, default=None)
