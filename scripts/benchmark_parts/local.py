"""Locks on this machine alone: `--local` beside flock(1)."""
from . import text
from .crowd import Crowd
from .free import interleaved, weigh

NAMES = ("local", "flock", "bare")


def measure(bench):
    tools = bench.tools(*NAMES)
    rounds, number, repeats = bench.number((300, 100, 3), (30, 10, 1))
    times, cpus = interleaved(bench, tools, rounds)
    base = text.median(times.get("flock"))
    rows = []
    for tool in tools:
        middle = text.median(times[tool.name])
        bench.figures[f"local {tool}"] = middle
        row = [tool.name, text.ms(middle), text.ms(min(times[tool.name])), text.ratio(middle, base),
               text.ms(text.median(cpus[tool.name]))]
        if tool.name == "true, no lock":
            rows.append([*row, "-", "-", "-"])
            continue
        crowds = [Crowd(tool, bench.place(tool), "bench-local", number) for _ in range(repeats)]
        if any(crowd.failed for crowd in crowds):
            raise RuntimeError(f"some of {tool} failed")
        seconds = text.median([crowd.seconds for crowd in crowds])
        rows.append([*row, text.secs(seconds), text.percent(number * 0.02 / seconds), text.size(weigh(bench, tool)[0])])
    head = ["", "free run, median", "least", "of `flock`", "CPU time", f"{number} contenders, all done", "efficiency",
            "memory, holding"]
    return f"{rounds} free runs of each in turns, {repeats} crowds.\n\n{text.table(head, rows, bench.absent(*NAMES))}\n"
