"""Times implementations in turn: each round has one timed call of each one. So a slow minute of the machine hits all.

The order of each round is drawn from a fixed seed. So no implementation always runs after the same one. Each turn
begins with untimed calls. Idle threads of the previous framework keep spinning for some milliseconds on cores that the
next one needs, and the next one's arrays have left the caches. A short call is repeated until this effect is over.
Before a long call the process sleeps, because this effect is then a small part of the call.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

LEAST_RUNS = 5


@dataclass
class Clock:
    """A clock, and how a turn begins.

    Attributes:
      now: returns seconds.
      sleep: waits for seconds.
      settle: seconds of untimed calls at the start of a turn, if a call takes less than that.
      rest: seconds of sleep at the start of a turn, if a call takes longer.
    """

    now: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], None] = time.sleep
    settle: float = 0.05
    rest: float = 0.02


@dataclass
class Times:
    """The seconds of each timed call, in order.

    Attributes:
      seconds: of each call.
      failed: the exception of the last call, or None. No call follows an exception.
    """

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
    """Time each call in rounds.

    The rounds end when each call has ``most_runs`` runs, or when all together have run for ``budget`` seconds. Each
    call gets at least LEAST_RUNS runs, or ``most_runs`` if that is less. A call that takes longer than the whole budget
    gets one run.

    Args:
      calls: what is timed, by name.
      expected: about how many seconds a call takes, from an earlier one.
      most_runs: the largest number of timed runs of each.
      budget: seconds for all runs together.
      clock: the system's clock if None.
    """
    clock = clock or Clock()
    order, all_times = random.Random(0), {name: Times() for name in calls}
    waiting, started = list(calls), clock.now()
    for done in range(most_runs):
        if not waiting or (done >= LEAST_RUNS and clock.now() - started >= budget):
            break
        for name in order.sample(waiting, len(waiting)):
            times = all_times[name]
            try:
                times.seconds.append(_turn(calls[name], clock, times.seconds[-1] if times.seconds else expected[name]))
            except Exception as error:  # most likely out of memory; the other calls go on
                times.failed = error
        waiting = [n for n in waiting if all_times[n].failed is None and min(all_times[n].seconds) <= budget]
    return all_times


def medians(calls: Mapping[str, Callable[[], Any]], *, most_runs: int, budget: float = math.inf) -> dict[str, float]:
    """Return the median seconds of each call. All are run once, and then timed by `interleave`.

    Raises:
      Exception: a call raised it.
    """
    for call in calls.values():
        call()
    found = interleave(calls, dict.fromkeys(calls, 0.0), most_runs=most_runs, budget=budget)
    for times in found.values():
        if times.failed is not None:
            raise times.failed
    return {name: statistics.median(times.seconds) for name, times in found.items()}


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
    del returned  # its memory is freed when the clock has stopped
    return after - before
