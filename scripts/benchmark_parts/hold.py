"""An hour of holding, on paper: from a sample of a minute."""
import time

from . import process, text
from .proxy import Proxy

NAMES = ("ours", "consul lock", "etcdctl lock")


def measure(bench):
    seconds = bench.number(60, 8)
    tools = bench.tools(*NAMES)
    # Each has a service of its own, and one Consul has nothing to do: what that uses is taken off.
    servers = [bench.new_server(tool) for tool in tools]
    idle = bench.new_server(bench.ours)
    proxies = []
    try:
        proxies = [Proxy(server.address) for server in servers]
        short = [cpu_of_run(tool, proxy, 0) for tool, proxy in zip(tools, proxies)]
        begin = time.monotonic()
        runs = [tool.start(proxy.address, "bench-hold", "sleep", str(seconds + 4)) for tool, proxy in zip(tools, proxies)]
        time.sleep(2)
        before = [proxy.count() for proxy in proxies]
        busy = [process.cpu(server.pids) for server in [*servers, idle]]
        time.sleep(seconds)
        after = [proxy.count() for proxy in proxies]
        busy = [process.cpu(server.pids) - used for server, used in zip([*servers, idle], busy)]
        ended = [process.wait(run) for run in runs]
        took = time.monotonic() - begin
    finally:
        for proxy in proxies:
            proxy.stop()
        for server in [*servers, idle]:
            server.stop()
    rows, hour = [], 3600 / seconds
    for index, tool in enumerate(tools):
        used = after[index] - before[index]
        own = max(0, ended[index].cpu - short[index]) * 3600 / took
        extra = text.secs(max(0, busy[index] - busy[-1]) * hour) if tool.backend == "consul" else "-"
        rows.append([tool.name, text.count(used.requests * hour), text.size(used.bytes * hour), text.secs(own), extra])
    head = ["", "requests", "bytes", "CPU time of the tool", "CPU time of the agent for it"]
    return (f"From {seconds} s with a command that sleeps, times {hour:.0f}. The agent's is what it used beyond an "
            f"idle agent's "
            f"{text.secs(busy[-1] * hour)}, in hundredths of a second times "
            f"{hour:.0f}.\n\n{text.table(head, rows, bench.absent(*NAMES))}\n")


def cpu_of_run(tool, proxy, seconds):
    """CPU time of a run that holds for no time: its start and end, which are not the holding."""
    return text.median([process.wait(tool.start(proxy.address, "bench-hold", "sleep", str(seconds))).cpu for _ in range(5)])
