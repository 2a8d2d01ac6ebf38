"""docs/benchmarks.md: the summary against what was to be reached, the parts, and how it was measured. Pure."""
import time

from . import text

PEERS = ("consul-lock run", "consul lock", "etcdctl lock", "flock")

METHOD = """\
Everything runs on one machine, and the clients share its processors with the servers: figures depend on the machine, ratios less
so. Consul is `consul agent -dev`, etcd a single server on disk, unless said otherwise; both listen on loopback. Each tool runs as
its users would type it, with its defaults: `consul-lock run KEY -- COMMAND`, `consul lock KEY COMMAND` (which runs it by a
shell), `etcdctl lock KEY COMMAND`, `flock FILE COMMAND`.

- **Times** are from before the start of the first process to the end of the last, by a monotonic clock. Tools take turns within a
  round, so that a disturbance meets all of them, and each finds the caches as the others left them. A free run is also timed *in
  blocks*, all runs of one tool after 20 that do not count, as hyperfine(1) does, by which 0.15 was set.
- **CPU time** is what the kernel counted for the tool, all its processes and the command, when it was awaited; the server's is from /proc,
  in hundredths of a second, divided by the number of runs.
- **Requests and bytes** are counted by a proxy between tool and server, in runs of their own that are not timed (but for `consul
  lock` at 300, where one run is both). A request is a request of HTTP for Consul and a message of gRPC for etcd. Bytes are those of
  both directions, without TCP's.
- **Memory** is the sum of the proportional shares (PSS) of all processes of the tool, the command not included; the peak is
  VmHWM of the process in front (of ours, there are two), looked up without a pause.
  `consul lock` shares its program's pages with the agent, which runs the same one; it has more of its own elsewhere.
- **The bare floor** is `examples/floor.rs`: the same requests, one process more for the guard, and nothing else.
- Agents take up to 5000 connections from one address (`limits { http_max_conns_per_client }`), where Consul's default is 200; what
  is different is said.
"""


def reached(value, limit):
    return "yes" if value <= limit else "no"


def over(figures, top, bottom):
    """The quotient of two figures, where both were measured."""
    return figures[top] / figures[bottom] if figures.get(top) and figures.get(bottom) else None


def summary(figures):
    """What was to be reached, and what was."""
    def peers(kind, show):
        return [show(figures[f"{kind} {name}"]) if f"{kind} {name}" in figures else "-" for name in PEERS[1:]]

    rows = []
    for kind, how in (("free in blocks", "in blocks"), ("free", "in turns")):
        share = over(figures, f"{kind} consul-lock run", f"{kind} consul lock")
        if share is not None:
            ours = figures[f"{kind} consul-lock run"]
            rows.append([f"free run of `true`, {how}", "0.15 x `consul lock`", f"{text.ms(ours)}, {share:.3f}",
                         reached(share, 0.15), *peers(kind, text.ms)])
            above = over(figures, f"{kind} consul-lock run", f"{kind} the bare floor")
            if above is not None:
                rows.append(["the same, over the bare floor", "1.5 x", f"{above:.2f}", reached(above, 1.5), "-", "-", "-"])
    for name, key in (("memory of a holder", "memory consul-lock run"), ("memory of a waiter", "memory of a waiter")):
        if figures.get(key):
            others = peers("memory", text.size) if key.startswith("memory consul") else ["-"] * 3
            rows.append([name, "8 MB", text.size(figures[key]), reached(figures[key], 8e6), *others])
    if "crowd 100 consul-lock run" in figures:
        ours = figures["crowd 100 consul-lock run"]
        rows.append(["100 contenders, 20 ms of work, all done", "2.6 s (ideal 2.0)", text.secs(ours), reached(ours, 2.6),
                     *peers("crowd 100", text.secs)])
    for number in (100, 300):
        ours = figures.get(f"requests {number} consul-lock run")
        if ours is not None:
            rows.append([f"requests a hand-over, {number} contenders", "14", text.count(ours), reached(ours, 14),
                         *peers(f"requests {number}", text.count)])
    if "fifo" in figures:
        number, bad = figures["fifo"]
        rows.append([f"{number} waiters in a known order, out of turn", "0", str(bad), reached(bad, 0), "-", "-", "-"])
    if "loss consul-lock run" in figures:
        ours, shell = figures["loss consul-lock run"], figures.get("loss consul lock -shell=false")
        rows.append(["session destroyed to obedient command dead", "5 ms", text.ms(ours), reached(ours, 0.005),
                     f"{text.ms(shell)} (with -shell=false)" if shell else "-", *peers("loss", text.ms)[1:]])
    share = over(figures, "local consul-lock run --local", "local flock")
    if share is not None:
        rows.append(["free run of `true`, `--local`", "2 x flock", f"{text.ms(figures['local consul-lock run --local'])}, "
                     f"{share:.2f}", reached(share, 2), "-", "-", text.ms(figures["local flock"])])
    return text.table(["", "to reach, or less", *PEERS[:1], "reached", *PEERS[1:]], rows)


def page(figures, about, minutes, parts):
    """The whole page; `parts` are headings and what is below them."""
    out = [
        "# Benchmarks\n",
        f"Written by `scripts/benchmark --write` on {time.strftime('%-d %B %Y')}, in {minutes:.0f} minutes.\n",
        f"{about}.\n",
        f"## What was to be reached\n\n{summary(figures)}\n",
        "![Time a hand-over against the number of waiters](benchmarks.svg)\n",
        *(f"## {heading}\n\n{body}" for heading, body in parts),
        f"## Method\n\n{METHOD}",
    ]
    return "\n".join(out)
