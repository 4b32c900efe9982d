"""The clock: implementations in turn, one timed call each a round, so that a slow minute of the machine falls on all.

Each round is in another order, drawn from a fixed seed, so that no implementation always runs behind the same one. Each
turn begins untimed: idle threads of the framework before keep spinning for some milliseconds on cores that the next
one needs, and its arrays have gone from the caches. A short call is repeated until that is over. Before a long one, of
which it is a small part, the machine rests.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

LEAST_RUNS = 5


@dataclass
class Clock:
    """settle: seconds of untimed calls at the start of a turn, where a call takes less; rest: of sleep, where not."""

    now: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], None] = time.sleep
    settle: float = 0.05
    rest: float = 0.02


@dataclass
class Times:
    """Seconds of each timed call in order; ``failed`` where a call raised, after which there were no more."""

    seconds: list[float] = field(default_factory=list)
    failed: Exception | None = None


def interleave(
    calls: Mapping[str, Callable[[], Any]],
    expected: Mapping[str, float],
    *,
    most_runs: int,
    budget: float,
    clock: Clock | None = None,
) -> dict[str, Times]:
    """Times each call in rounds, until each has ``most_runs`` or all together have run for ``budget`` seconds.

    Each gets LEAST_RUNS all the same (or ``most_runs``, where that is less), save one whose single call takes longer
    than the whole budget: it gets that one. ``expected``: about how many seconds a call takes, from one made before.
    """
    clock = clock or Clock()
    order, found = random.Random(0), {name: Times() for name in calls}
    waiting, started = list(calls), clock.now()
    for done in range(most_runs):
        if not waiting or (done >= LEAST_RUNS and clock.now() - started >= budget):
            break
        for name in order.sample(waiting, len(waiting)):
            times = found[name]
            try:
                times.seconds.append(_turn(calls[name], clock, times.seconds[-1] if times.seconds else expected[name]))
            except Exception as error:  # out of memory, most likely: the others go on
                times.failed = error
        waiting = [n for n in waiting if found[n].failed is None and min(found[n].seconds) <= budget]
    return found


def _turn(call: Callable[[], Any], clock: Clock, expected: float) -> float:
    started = clock.now()
    if expected >= clock.settle:
        clock.sleep(clock.rest)
    else:
        while clock.now() - started < clock.settle:
            call()
    before = clock.now()
    returned = call()
    after = clock.now()
    del returned  # its memory is given back when the clock has stopped
    return after - before
