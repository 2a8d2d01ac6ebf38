"""A small network inside this machine: hosts are network namespaces, joined by a bridge that drops what it is told to.

All of it lives in namespaces of mounts, networks and processes that belong to this test alone. When its first process
ends, in whatever way, the kernel kills every process in it and takes the network down; nothing is left to clean up,
and no name or address is visible outside.
"""
import os
import shutil
import signal
import subprocess
import sys
import threading

COMMANDS = ("unshare", "nsenter", "mount", "ip", "bridge")
UNSHARE = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
PREFIX = "10.99.0."


def hindrance():
    """Why no network can be made here, or None."""
    missing = [name for name in COMMANDS if not shutil.which(name)]
    if missing:
        return f"missing here: {', '.join(missing)} (Debian: util-linux, mount, iproute2)"
    if os.geteuid() != 0:
        return "network namespaces need root"
    probe = "mount -t tmpfs tmpfs /run && ip netns add probe && ip link add hub type bridge && ip link set hub up"
    tried = subprocess.run([*UNSHARE, "sh", "-c", probe], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if tried.returncode:
        return f"namespaces are not permitted here: {tried.stderr.strip()}"
    return None


def isolate(arguments):
    """Runs this program again inside namespaces of its own, with these arguments; returns its exit code.

    The child's end is bound to ours by a pipe, even if we are killed -9.
    """
    lifeline, held = os.pipe()
    command = [*UNSHARE, sys.executable, sys.argv[0], *arguments, "--lifeline", str(lifeline)]
    child = subprocess.Popen(command, pass_fds=[lifeline])
    os.close(lifeline)

    def stop(number, _frame):
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, stop)
    try:
        code = child.wait()
        return code if code >= 0 else 128 - code
    finally:
        os.close(held)
        child.wait()


def become_init(lifeline):
    """Called by the first process of the namespaces: forks, returns in the child, and reaps whatever falls to it."""
    child = os.fork()
    if child == 0:
        os.close(lifeline)
        return
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)

    def watch():
        os.read(lifeline, 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))


def run(*command):
    subprocess.run(command, check=True)


class Network:
    """The hosts by name. Only what runs inside one can use its addresses."""

    def __init__(self, names):
        self.addresses = {name: f"{PREFIX}{number}" for number, name in enumerate(names, start=1)}
        run("mount", "-t", "tmpfs", "tmpfs", "/run")
        run("ip", "link", "add", "hub", "type", "bridge", "forward_delay", "0")
        run("ip", "link", "set", "hub", "up")
        for name, address in self.addresses.items():
            run("ip", "netns", "add", name)
            run("ip", "link", "add", f"port-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
            run("ip", "link", "set", f"port-{name}", "master", "hub", "up")
            run("ip", "-n", name, "link", "set", "lo", "up")
            run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "eth0", "up")

    def on(self, host, command):
        """The command line that executes `command` on that host, in the very process that executes it."""
        return ["nsenter", f"--net=/run/netns/{host}", *command]

    def cut(self, host):
        """Drops every frame from and to the host, without a word to anybody."""
        run("bridge", "link", "set", "dev", f"port-{host}", "state", "0")

    def heal(self, host):
        run("bridge", "link", "set", "dev", f"port-{host}", "state", "3")
