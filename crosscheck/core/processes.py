"""Pieces of work in one process or in several, results as they end."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process, resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar, cast

Name = TypeVar("Name", bound=Hashable)
Found = TypeVar("Found")


class WorkerEnded(ChildProcessError):
    """A worker process ended before its piece of work did, such as one that the system killed for memory."""


def run_all(
    pieces: Mapping[Name, Callable[[], Found]], jobs: int, begins: Callable[[Name], None] = lambda name: None
) -> Iterator[tuple[Name, Found]]:
    """Yield (name, result) of each piece. ``begins(name)`` is called when a piece begins.

    With ``jobs`` over 1 in so many processes, started in the pieces' order, results as they come. What a piece raises
    ends it, and the workers are killed. With one job all run here, in order. No worker outlives this process.

    Raises:
      WorkerEnded: a worker died.
    """
    if jobs <= 1:
        for name, piece in pieces.items():
            begins(name)
            yield name, piece()
        return
    workers = [_Worker() for _ in range(min(jobs, len(pieces)))]
    try:
        waiting = iter(pieces.items())
        busy: dict[connection.Connection, tuple[_Worker, Name]] = {}

        def hand_out(worker: _Worker) -> None:
            for name, piece in waiting:
                begins(name)
                worker.pipe.send(piece)
                busy[worker.pipe] = worker, name
                return

        for worker in workers:
            hand_out(worker)
        while busy:
            for pipe in connection.wait(list(busy)):
                worker, name = busy.pop(cast(connection.Connection, pipe))
                result = worker.result(name)
                hand_out(worker)
                yield name, result
    finally:
        for worker in workers:
            worker.process.kill()


class _Worker:
    """A process that runs one piece after the other.

    It has no queue, and so no semaphore that somebody would have to remove once it is killed.
    """

    def __init__(self) -> None:
        self.pipe, theirs = get_context("spawn").Pipe()
        self.process: BaseProcess = get_context("spawn").Process(target=_work, args=(theirs,), daemon=True)
        with _without_interrupts():
            self.process.start()
        theirs.close()

    def result(self, name: object) -> Any:
        try:
            raised, answer = self.pipe.recv()
        except EOFError:
            self.process.join()
            code = self.process.exitcode
            raise WorkerEnded(f"the process that ran {name} ended with exit code {code}") from None
        if raised:
            raise answer
        return answer


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """What is started within never sees Ctrl-C: the process that started it ends it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # it would start with the first worker, and unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: connection.Connection) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            piece = pipe.recv_bytes()
        except EOFError:
            return
        try:
            answer = (False, pickle.loads(piece)())  # our own parent's
        except BaseException as error:
            answer = (True, error)
        try:
            pipe.send(answer)
        except Exception as error:
            pipe.send((True, RuntimeError(f"{type(answer[1]).__name__} cannot be sent: {error}")))


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
