"""Ctrl-C and SIGTERM end the command at once, also while the main thread is inside XLA or torch.

Python runs a signal's handler in the main thread, and only between two of its own instructions. A compilation can keep
it away from there for half a minute. The C part of the handler, however, writes the signal's number into a descriptor
at once (`signal.set_wakeup_fd`). A thread waits for that number, clears up and ends the process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

PATIENCE = 1.0  # seconds for clearing up
_undo: list[Callable[[], None]] = []


def end_on_signals() -> None:
    """Make SIGINT end this process with exit code 130 and SIGTERM with 143. A signal that is ignored stays so."""
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    woken, wakes = socket.socketpair()
    wakes.setblocking(False)
    threading.Thread(target=_watch, args=(woken, frozenset(numbers)), daemon=True, name="signals").start()
    signal.set_wakeup_fd(wakes.detach(), warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, lambda *_: None)


@contextlib.contextmanager
def on_interrupt(undo: Callable[[], None]) -> Iterator[None]:
    """Call ``undo`` if the process is interrupted within. It runs in another thread than the work that it undoes."""
    _undo.append(undo)
    try:
        yield
    finally:
        _undo.remove(undo)


def _watch(woken: socket.socket, numbers: frozenset[int]) -> None:
    while (number := woken.recv(1)[0]) not in numbers:
        pass
    code = 128 + number
    late = threading.Timer(PATIENCE, os._exit, (code,))
    late.daemon = True
    late.start()
    for undo in reversed(_undo):
        with contextlib.suppress(Exception):
            undo()
    for pid in _descendants():
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    os._exit(code)  # threads of the frameworks may not end in order


def _descendants() -> list[int]:
    """Return the processes that this one started, and those that they did. Empty if the system has no /proc."""
    if sys.platform != "linux":
        return []  # a worker ends by itself if this process does
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
    found = [os.getpid()]
    for pid in found:  # it grows
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]
