"""Names of processes that hold across machines, restarts and reused numbers; whether the process of a name still runs.

A run and a lock name the process that they belong to. Later, another process judges by the name alone whether that one
still exists.
"""

import functools
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SILENT_SECONDS = 15 * 60  # a process of another machine that gave no sign of life for so long has ended


def process_name(pid: int | None = None) -> str:
    """host:boot:namespace:pid:start of a process of this machine; None: of this process.

    boot: the kernel's id of this start of the machine; namespace: of the process numbers, which containers have their
    own of; start: when the process started, in the kernel's ticks. They are empty on systems without /proc.
    """
    pid = os.getpid() if pid is None else pid
    return f"{socket.gethostname()}:{_boot_id()}:{_namespace()}:{pid}:{start_time(pid)}"


@dataclass(frozen=True)
class ProcessName:
    """The parts of a process name. Names of earlier versions, host:pid:start, have neither boot nor namespace."""

    host: str
    boot: str
    namespace: str
    pid: int
    start: str


def parse_name(text: str) -> ProcessName | None:
    """The parts of a name; None if the text is not one."""
    parts = text.split(":")
    if len(parts) == 3:
        parts[1:1] = ["", ""]
    if len(parts) != 5 or not parts[0] or not parts[3].isdecimal() or int(parts[3]) == 0:
        return None
    host, boot, namespace, pid, start = parts
    return ProcessName(host, boot, namespace, int(pid), start)


def why_ended(text: str, last_sign: float | None = None) -> str:
    """Why the process of this name does not exist any more, in words; '' if it exists, or if that cannot be told.

    Args:
        text: the name; one that cannot be read is never judged.
        last_sign: when the process last gave a sign of life (seconds since 1970); it decides where the process cannot
            be looked up: on another machine or in another container. None: not known.
    """
    name = parse_name(text)
    if name is None:
        return ""
    if name.host != socket.gethostname():
        return _why_silent(f"the machine {name.host}", last_sign)
    if name.boot and name.boot != _boot_id():
        # Another machine may have this host name, as containers often do; then it gave signs since this one started.
        restarted = last_sign is None or last_sign < boot_time()
        other = _why_silent(f"another machine named {name.host}", last_sign)
        return f"the machine {name.host} was restarted or lost its power" if restarted else other
    if name.namespace and name.namespace != _namespace():
        return _why_silent("another container", last_sign)
    if is_running(name.pid, name.start):
        return ""
    return f"its process {name.pid} was killed or crashed"


def is_process_alive(text: str) -> bool:
    """Whether the process of this name still runs, as far as that can be told: otherwise it counts as alive."""
    return not why_ended(text)


def _why_silent(place: str, last_sign: float | None) -> str:
    if last_sign is None or time.time() - last_sign < SILENT_SECONDS:
        return ""
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(last_sign))
    return f"its process, on {place}, has given no sign of life since {when}"


def is_running(pid: int, start: str = "") -> bool:
    """Whether this process runs; start: when it started, because numbers are used again. A zombie has ended."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    state, *_ = _stat(pid) or [""]
    return state not in ("Z", "X") and (not start or start_time(pid) == start)


def start_time(pid: int) -> str:
    """When a process started, in the kernel's ticks since the start of the machine; '' if that is not known."""
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 else ""


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name: state, parent, ..."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def descendants(pid: int) -> Iterator[int]:
    """This process's children, their children and so on; none on systems without /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        fields = _stat(int(entry.name))
        if fields:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    waiting = [pid]
    while waiting:
        found = children.get(waiting.pop(), [])
        yield from found
        waiting += found


@functools.cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


@functools.cache
def boot_time() -> float:
    """When this machine was started, in seconds since 1970; 0 if that is not known."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) for line in lines if line.startswith("btime ")), 0.0)


@functools.cache
def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return ""
