"""A free lock: the whole run of `true`, timed, counted, and weighed."""
import re
import time

from . import process, text
from .proxy import Proxy

NAMES = ("ours", "consul lock", "etcdctl lock", "flock", "floor", "bare")


def interleaved(bench, tools, rounds, work=("true",)):
    """Times and CPU times of each tool's runs, taken in turns, so that what disturbs the machine disturbs all."""
    times = {tool.name: [] for tool in tools}
    cpus = {tool.name: [] for tool in tools}
    for number in range(rounds + 3):
        for tool in tools[number % len(tools):] + tools[:number % len(tools)]:
            begin = time.perf_counter()
            ended = process.wait(tool.start(bench.place(tool), "bench-free", *work))
            took = time.perf_counter() - begin
            if ended.code != 0:
                raise RuntimeError(f"{tool}: exit code {ended.code}")
            if number >= 3:
                times[tool.name].append(took)
                cpus[tool.name].append(ended.cpu)
    return times, cpus


def in_blocks(bench, tools, rounds, warmups=20):
    """Times of each tool's runs one after the other, as hyperfine(1) takes them: its files and the server's are warm."""
    times = {tool.name: [] for tool in tools}
    for tool in tools:
        for number in range(warmups + rounds):
            begin = time.perf_counter()
            ended = process.wait(tool.start(bench.place(tool), "bench-free", "true"))
            took = time.perf_counter() - begin
            if ended.code != 0:
                raise RuntimeError(f"{tool}: exit code {ended.code}")
            if number >= warmups:
                times[tool.name].append(took)
    return times


def server_cpu(bench, tool, runs):
    """CPU time of the service for one run."""
    pids = bench.server(tool).pids
    before = process.cpu(pids)
    for _ in range(runs):
        process.wait(tool.start(bench.place(tool), "bench-free", "true"))
    return (process.cpu(pids) - before) / runs


def count(tool, place):
    """What one run sends and receives, and its requests."""
    proxy = Proxy(place)
    process.wait(tool.start(proxy.address, "bench-count", "true"))
    time.sleep(0.1)
    total = proxy.count()
    proxy.stop()
    return total, proxy.lines


def weigh(bench, tool):
    """PSS of the tool's processes while the command runs, and the peak of the process in front."""
    pid = tool.start(bench.place(tool), "bench-memory", "sleep", "2.5")
    process.until("the command", lambda: process.command_below(pid, "sleep"))
    time.sleep(1.5)
    pss = process.memory(tool.own(process.tree(pid)))
    process.wait(pid)
    command = tool.command(bench.place(tool), "bench-memory", ["true"])
    env = process.environment(CONSUL_HTTP_ADDR=str(bench.place(tool)))
    # The best of some, since what ends between two looks shows less.
    return pss, max(process.peak(command, env) for _ in range(5))


def measure(bench):
    rounds = bench.number(300, 20)
    tools = bench.tools(*NAMES)
    times, cpus = interleaved(bench, tools, rounds)
    blocks = in_blocks(bench, tools, rounds)
    base, base_in_blocks = (text.median(each.get("consul lock")) for each in (times, blocks))
    rows, requests = [], []
    for tool in tools:
        mine, block = times[tool.name], blocks[tool.name]
        row = [tool.name, text.ms(text.median(mine)), text.ms(min(mine)), text.ratio(text.median(mine), base),
               text.ms(text.median(block)), text.ratio(text.median(block), base_in_blocks),
               text.ms(text.median(cpus[tool.name]))]
        served = tool.backend in ("consul", "etcd")
        row.append(text.ms(server_cpu(bench, tool, bench.number(100, 20))) if served else "-")
        if served:
            total, lines = count(tool, bench.place(tool))
            row += [text.count(total.requests), text.count(total.connections), text.size(total.bytes)]
            if tool is bench.ours:
                requests = lines
        else:
            row += ["-", "-", "-"]
        if tool.name in ("the bare floor", "true, no lock"):
            row += ["-", "-"]
        else:
            pss, peak = weigh(bench, tool)
            row += [text.size(pss), text.size(peak)]
            bench.figures[f"memory {tool}"] = pss
        rows.append(row)
        bench.figures[f"free {tool}"] = text.median(mine)
        bench.figures[f"free in blocks {tool}"] = text.median(block)
    head = ["", "in turns, median", "least", "of `consul lock`", "in blocks, median", "of `consul lock`", "CPU time", "server's CPU time", "requests", "connections", "bytes",
            "memory, holding", "peak, in front"]
    shown = "\n".join(re.sub("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", line) for line in requests)
    return (f"{rounds} runs of each in turns, and as many of each one after the other.\n\n{text.table(head, rows, bench.absent(*NAMES))}\n\nOur "
            f"requests:\n\n```text\n{shown}\n```\n")
