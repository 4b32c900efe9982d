"""The catalogue of faults by name: the single mistakes that a check of LSTM ports must see."""

from __future__ import annotations

from crosscheck.faults import backward, cell, layout, precision, results, sequence, states
from crosscheck.faults.fault import Fault

_TOPICS = (layout, states, cell, sequence, precision, backward, results)
_ALL: tuple[Fault, ...] = tuple(fault for topic in _TOPICS for fault in topic.FAULTS)

FAULTS: dict[str, Fault] = {fault.name: fault for fault in _ALL}

if len(FAULTS) != len(_ALL):
    twice = sorted({fault.name for fault in _ALL if sum(fault.name == other.name for other in _ALL) > 1})
    raise ValueError(f"names of faults must differ; given twice: {', '.join(twice)}.")
