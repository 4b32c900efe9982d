"""Pieces of work in one process or in several, results as they end."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)
Found = TypeVar("Found")


def run_all(pieces: Mapping[Name, Callable[[], Found]], jobs: int) -> Iterator[tuple[Name, Found]]:
    """(name, result) of each piece.

    With ``jobs`` over 1 in so many processes, started in the pieces' order, results as they come; what a piece raises
    ends it, and pieces not yet begun are dropped. With one job all run here, in order.
    """
    if jobs <= 1:
        for name, piece in pieces.items():
            yield name, piece()
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(piece): name for name, piece in pieces.items()}
        try:
            for done in as_completed(running):
                yield running[done], done.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
