"""Runs pieces of work in one process or in several, and gives each result when it is there."""

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
Result = TypeVar("Result")


class WorkerEnded(ChildProcessError):
    """A worker process ended before its piece of work did, such as one that the system killed for memory."""


def run_all(
    pieces: Mapping[Name, Callable[[], Result]], jobs: int, begins: Callable[[Name], None] = lambda name: None
) -> Iterator[tuple[Name, Result]]:
    """Yield (name, result) of each piece.

    Args:
      pieces: functions without arguments, by name. They must be picklable if ``jobs`` exceeds 1.
      jobs: the number of processes. With more than one, pieces start in order, and a result is yielded when it is
        there. With one, all pieces run in this process, in order. No worker outlives this process.
      begins: called with the name of a piece when it begins.

    Raises:
      WorkerEnded: a worker died.
      Exception: whatever a piece raises. The other workers are then killed.
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

    It has a pipe and no queue: a queue has a semaphore, which stays behind if the process is killed.
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
    """Block Ctrl-C for processes that start inside the block. The process that started them ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # else it starts with the first worker, and unblocks the signal
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
            answer = (False, pickle.loads(piece)())
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
