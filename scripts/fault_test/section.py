"""The critical section, run by the tool under test: a tree of processes whose deepest one beats every 10 ms.

A beat is one line `B TIME RUN FENCE PID` appended to the worker's file; the last one, when the work is over and nobody
ended it before, is `E …`. TIME is CLOCK_BOOTTIME in nanoseconds: all hosts of the test share one kernel, so the lines of
all files are in one exact order. Each shape of tree hides the beating process from a tool in another way.

The work lasts FAULT_SECONDS, and longer while the file FAULT_LONG exists: the nemesis makes it so that there is
somebody to be hurt when others could take the lock.
"""
import os
import signal
import sys
import time

INTERVAL = 0.01
LONGEST = 75.0
SH = "/bin/sh"

begun = time.clock_gettime(time.CLOCK_BOOTTIME)


def environment(name):
    return os.environ["FAULT_" + name]


def write(kind):
    """Appends a line in one write, so that lines of several processes stay whole."""
    fence = os.environ.get("CONSUL_LOCK_FENCE", "-")
    now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    os.write(beats, f"{kind} {now} {environment('RUN')} {fence} {os.getpid()}\n".encode())


def over():
    """Whether the work is done."""
    lasted = time.clock_gettime(time.CLOCK_BOOTTIME) - begun
    if lasted < float(environment("SECONDS")):
        return False
    return lasted > LONGEST or not os.path.exists(environment("LONG"))


def beat():
    """Beats until the work is done."""
    while not over():
        write("B")
        time.sleep(INTERVAL)
    write("E")


def hop():
    """Beats once a process: each forks the next, in a session of its own, and ends."""
    while not over():
        write("B")
        time.sleep(INTERVAL)
        if os.fork():
            os._exit(0)
        os.setsid()
    write("E")


def apart(work, *steps):
    """Runs `work` in a forked process that took these steps first; waits until it and all its descendants are gone."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(reading)
        for step in steps:
            step()
        work()
        os._exit(0)
    os.close(writing)
    os.read(reading, 1)


def fork_again():
    if os.fork():
        os._exit(0)


def ignore():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def shell(script, *, again="beat"):
    """Becomes a shell whose script runs this file once more, in the named shape, as "$@"."""
    os.execv(SH, [SH, "-c", script, SH, sys.executable, "-I", "-S", __file__, again])


def obedient():
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    beat()


def grandchild():
    shell('sh -c \'"$@"; :\' sh "$@"; :')


def pipeline():
    shell('"$@" | cat; :')


def in_session():
    apart(beat, os.setsid)


def daemon():
    apart(beat, os.setsid, fork_again)


def deaf():
    ignore()
    shell('"$@"; :', again="beat")


def hopper():
    apart(hop, ignore, os.setsid)


def beside_stopped():
    stopped = os.fork()
    if stopped == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    apart(beat)
    os.kill(stopped, signal.SIGKILL)


def crowd():
    """A hundred descendants, each the child of the one before; the last beats."""
    for _ in range(100):
        child = os.fork()
        if child:
            ended = os.waitpid(child, 0)
            os._exit(0 if ended else 1)
    beat()
    os._exit(0)


def headless():
    """The first thread ends, so that the process looks like a zombie; another one beats."""
    import ctypes
    import platform
    import threading

    def work():
        beat()
        os._exit(0)

    threading.Thread(target=work).start()
    ctypes.CDLL(None).syscall({"x86_64": 60}.get(platform.machine(), 93), 0)


def namespace():
    os.execvp("unshare", ["unshare", "--pid", "--fork", sys.executable, "-I", "-S", __file__, "beat"])


SHAPES = {
    "obedient": obedient,
    "grandchild": grandchild,
    "pipeline": pipeline,
    "in a session": in_session,
    "daemon": daemon,
    "deaf": deaf,
    "hopper": hopper,
    "beside a stopped one": beside_stopped,
    "crowd": crowd,
    "headless": headless,
    "in a PID namespace": namespace,
}
NEEDS_ROOT = {"in a PID namespace"}

if __name__ == "__main__":
    beats = os.open(environment("BEATS"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    dict(SHAPES, beat=beat)[sys.argv[1]]()
