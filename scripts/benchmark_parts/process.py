"""Processes: started without a fork of this large one, awaited with what they used, and looked at through /proc."""
import os
import signal
import time

DEVNULL = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
TICK = os.sysconf("SC_CLK_TCK")

# What this script has started and not yet awaited; all of it is killed at the end, whatever that is.
running = set()


class Ended:
    """How a process ended, and the CPU time in seconds that it and all whom it awaited took."""

    def __init__(self, status, usage):
        self.code = os.waitstatus_to_exitcode(status)
        self.cpu = usage.ru_utime + usage.ru_stime


def environment(**more):
    """Ours without Consul's and etcd's variables, and with these."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CONSUL_", "ETCD"))}
    return {**clean, "SHELL": "/bin/sh", **more}


def installed(program, folder):
    """A copy, as users have one: a file that the linker has just written costs a run 10 to 20 page faults more."""
    copy = os.path.join(folder, os.path.basename(program))
    with open(program, "rb") as file, open(copy, "wb") as new:
        new.write(file.read())
        os.fchmod(new.fileno(), 0o755)
        os.fsync(new.fileno())
    return copy


def spawn(command, env, stdout=DEVNULL, stderr=DEVNULL):
    actions = [(os.POSIX_SPAWN_DUP2, DEVNULL, 0), (os.POSIX_SPAWN_DUP2, stdout, 1), (os.POSIX_SPAWN_DUP2, stderr, 2)]
    pid = os.posix_spawnp(command[0], command, env, file_actions=actions)
    running.add(pid)
    return pid


def wait(pid):
    _, status, usage = os.wait4(pid, 0)
    running.discard(pid)
    return Ended(status, usage)


def has_ended(pid):
    """Whether it has ended; it is still to be awaited."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def hurry(pid):
    """Asks it to end, if it still runs; it is still to be awaited."""
    if not has_ended(pid):
        os.kill(pid, signal.SIGTERM)


def stop(pid, patience=10):
    """Ends it: politely, and then not."""
    if pid not in running:
        return
    hurry(pid)
    end = time.monotonic() + patience
    while not has_ended(pid) and time.monotonic() < end:
        time.sleep(0.005)
    if not has_ended(pid):
        os.kill(pid, signal.SIGKILL)
    wait(pid)


def stop_all():
    """Kills what is left, with all below it, which includes guards and servers."""
    doomed = [pid for root in list(running) for pid in tree(root)]
    for pid in doomed:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    for pid in list(running):
        wait(pid)


def until(what, condition, seconds=60, pause=0.005):
    """The first true value of the condition."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(pause)
    raise RuntimeError(f"waited {seconds} s for: {what}")


def parents():
    """The parent of each process that exists."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                    found[int(entry)] = int(file.read().rsplit(")", 1)[1].split()[1])
            except OSError:
                pass
    return found


def tree(*roots):
    """The processes and all their descendants."""
    children = {}
    for pid, parent in parents().items():
        children.setdefault(parent, []).append(pid)
    found, todo = [], list(roots)
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def program(pid):
    """The file that a process executes."""
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return None


def command_below(root, name):
    """The process below `root` that executes a program of this name, if there is one."""
    return next((pid for pid in tree(root) if os.path.basename(program(pid) or "") == name), None)


def field(path, name):
    """A figure in kB from a file of /proc, in bytes."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith(name):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def memory(pids):
    """The proportional share of memory (PSS) of all these together."""
    return sum(field(f"/proc/{pid}/smaps_rollup", "Pss:") or 0 for pid in pids)


def peak(command, env):
    """The most that the front process of a run had resident (VmHWM): looked up without a pause until it has ended."""
    own, most = os.path.realpath(program_file(command[0])), 0
    pid = spawn(command, env)
    while not has_ended(pid):
        # In this order: before it executes the program, the memory is this script's.
        if program(pid) == own:
            most = max(most, field(f"/proc/{pid}/status", "VmHWM:") or 0)
    wait(pid)
    return most


def program_file(name):
    """Where a program is, along PATH if it has no slash."""
    if "/" in name:
        return name
    for folder in os.environ["PATH"].split(os.pathsep):
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK):
            return path
    raise RuntimeError(f"{name} is not on PATH")


def cpu(pids):
    """CPU seconds that these processes have used until now, to a hundredth or so."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK
