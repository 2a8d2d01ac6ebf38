"""Workers: each runs its tool around a critical section, over and over, and writes down how every run went."""
import itertools
import json
import os
import random
import subprocess
import sys
import threading
import time

from . import section

SECTION = os.path.abspath(section.__file__)
# The tools get the same lock delay and TTL: `consul lock` cannot choose them (15 s and 15 s).
# A grace of 3 s is shorter than `consul lock`'s fixed 5 s: it leaves 11 s to ride out an outage, of the 15.
OURS_OPTIONS = ["--ttl", "15s", "--lock-delay", "15s", "-k", "3s"]


class Tool:
    """A tool under test: its name, the key that its lock is, and the command line around a section."""

    def __init__(self, name, key, command):
        self.name, self.key, self.command = name, key, command


def ours(binary):
    key = "fault-test/ours"
    return Tool("consul-lock", key, [binary, "run", "-v", "--log-format", "json", *OURS_OPTIONS, key, "--"])


def consuls_own(consul):
    prefix = "fault-test/theirs"
    command = [consul, "lock", "-verbose", "-child-exit-code", "-shell=false", prefix]
    return Tool("consul lock", prefix + "/.lock", command)


def now():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def last_line(tail):
    """The last line that is whole at both ends: who reads while another process appends may see the beginning of the next."""
    lines = tail.split("\n")[:-1]
    return next((line for line in reversed(lines) if len(line.split()) == 5), None)


class Worker(threading.Thread):
    """Runs one tool on one host until it is told to end."""

    def __init__(self, tool, host, folder, seed, on_host=lambda command: command):
        super().__init__(daemon=True)
        self.tool, self.host, self.on_host = tool, host, on_host
        self.random = random.Random(f"{seed}/{tool.name}/{host}")
        name = f"{tool.name.replace(' ', '_')}-{host}"
        self.beats = os.path.join(folder, name + ".beats")
        self.runs = os.path.join(folder, name + ".runs")
        self.errors = os.path.join(folder, name + ".stderr")
        self.long = os.path.join(folder, "long")
        self.ending = threading.Event()
        self.process = None
        self.name = name

    def shapes(self):
        """All shapes of tree, shuffled, again and again: none is forgotten."""
        shapes = [shape for shape in section.SHAPES if os.geteuid() == 0 or shape not in section.NEEDS_ROOT]
        while True:
            self.random.shuffle(shapes)
            yield from shapes

    def run(self):
        shapes = self.shapes()
        for number in itertools.count(1):
            if self.ending.is_set():
                return
            self.run_once(f"{self.name}-{number}", next(shapes), self.random.uniform(1, 8))

    def run_once(self, run, shape, seconds):
        environment = {
            "PATH": os.environ["PATH"],
            "FAULT_RUN": run,
            "FAULT_BEATS": self.beats,
            "FAULT_SECONDS": f"{seconds:.3f}",
            "FAULT_LONG": self.long,
        }
        command = self.on_host([*self.tool.command, sys.executable, "-I", "-S", SECTION, shape])
        begun = now()
        with open(self.errors, "ab") as errors:
            errors.write(f"{begun} {run} {shape}\n".encode())
            errors.flush()
            # A session of its own is what a shell's job is to the tool: the command shares its process group.
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
                start_new_session=True)
            code = self.process.wait()
        ended = now()
        with open(self.runs, "a", encoding="utf-8") as out:
            record = {"run": run, "tool": self.tool.name, "host": self.host, "shape": shape,
                      "begun": begun, "ended": ended, "code": code}
            out.write(json.dumps(record) + "\n")
        if code != 0:
            self.ending.wait(0.5)

    def beating(self, within=0.2):
        """The run that is inside the lock right now, or None."""
        try:
            with open(self.beats, "rb") as beats:
                beats.seek(max(0, beats.seek(0, os.SEEK_END) - 300))
                tail = beats.read().decode()
        except FileNotFoundError:
            return None
        line = last_line(tail)
        if line is None:
            return None
        kind, when, run, _fence, _pid = line.split()
        if kind == "B" and now() - int(when) < within * 1e9:
            return run
        return None
