"""The check before any time is measured: jax_lstm on JAX's default device against torch in float64 on the CPU.

Every case runs on each backend. The first precision has the forward pass and the training step. The other precisions
have only the training step, to save compilations: it includes the forward pass.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import jax.numpy as jnp
import torch

import jax_lstm
from benchmarks.agreement import limit, worst
from benchmarks.implementations.jax_lstm import ours
from benchmarks.measurement import error_line
from benchmarks.options import FEATURES, KINDS, Feature, Precision
from benchmarks.settings import measuring, record
from benchmarks.shapes import parse_shape
from benchmarks.work import Work, make_work, reference
from crosscheck.core.errors import first_line
from crosscheck.core.problem import Results
from jax_lstm._src.files import write_whole
from jax_lstm._src.options import BACKENDS, Backend

FILE = "correctness.json"
PLAIN = ("10,2,300,256", "1000,16,128,128")
SMALL = "40,5,24,36"
OPTIONS: tuple[tuple[Feature, str], ...] = (
    ("plain", "checkpoint_every=sqrt"),
    ("lengths", "checkpoint_every=sqrt"),
    ("plain", "unroll=4"),
    ("plain", "carry_dtype=float32"),
)
RIGHT, WRONG, CANNOT_RUN = "right", "WRONG", "cannot run"


@dataclass(frozen=True)
class Case:
    """A call that is checked.

    Attributes:
      shape: the sizes, T,B,D,H.
      feature: what the network has instead of one plain layer.
      backend: the backend that runs it.
      options: other options, as `benchmarks.implementations.jax_lstm.ours` takes them.
    """

    shape: str
    feature: Feature
    backend: Backend
    options: str = ""


@dataclass(frozen=True)
class Row:
    """The outcome of a case.

    Attributes:
      shape, feature, backend, options, precision, kind: the case, and how it ran.
      limit: the largest relative error that counts as rounding.
      outcome: RIGHT, WRONG or CANNOT_RUN.
      quantity: the result with the largest error, or the reason why there is none.
      error: relative to the norm of the result. NaN if the case cannot run.
    """

    shape: str
    feature: str
    backend: str
    options: str
    precision: str
    kind: str
    limit: float
    outcome: str = ""
    quantity: str = ""
    error: float = math.nan


def cases(plain: Sequence[str]) -> list[Case]:
    """Return the cases, the most important first: plain layers of these shapes, each feature, and the options."""
    backends = [name for name in BACKENDS if name not in ("auto", "native", "pallas")]  # those two are not for a GPU
    return [
        *(Case(shape, "plain", backend) for shape in plain for backend in backends),
        *(Case(SMALL, feature, backend) for feature in FEATURES if feature != "plain" for backend in backends),
        *(Case(SMALL, feature, "scan", options) for feature, options in OPTIONS),
    ]


def check(
    checked: Sequence[Case], precisions: Sequence[Precision], out: Path, has_time: Callable[[], bool] = lambda: True
) -> bool:
    """Check every case, print and write its outcome, and return whether nothing was wrong.

    Args:
      checked: the cases, the most important first.
      precisions: each case runs in all of them.
      out: the folder of the file.
      has_time: returns whether there is time for one more case. The last line counts the cases that are left out.
        `benchmarks.measurement` checks each row of a table too.
    """
    todo = [(case, precision, kind) for case in checked for precision, kind in _runs(precisions)]
    rows = []
    for case, precision, kind in todo:
        if not has_time():
            break
        row = check_one(case, precision, kind)
        print(_line(row), flush=True)
        rows.append(row)
    count = {outcome: sum(row.outcome == outcome for row in rows) for outcome in (RIGHT, WRONG, CANNOT_RUN)}
    left = len(todo) - len(rows)
    print("checks:", *(f"{n} {outcome}," for outcome, n in count.items()), f"{left} left out for lack of time")
    ok = not count[WRONG]
    content = {"ok": ok, "left_out": left, "settings": record(precisions[0]), "rows": [_plain(row) for row in rows]}
    write_whole(out / FILE, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return ok


def check_one(case: Case, precision: Precision, kind: str) -> Row:
    """Run one case and compare it. An exception counts as wrong, unless the backend refuses the case."""
    work, expected = _reference(case.shape, kind, case.feature, precision)
    row = Row(**asdict(case), precision=precision, kind=kind, limit=limit(work))
    with measuring(precision):
        if refusal := _refusal(work, case.backend):
            return replace(row, outcome=CANNOT_RUN, quantity=refusal)
        try:
            ready = ours(f"backend={case.backend} {case.options}").ready(work)
            quantity, error = worst(work, expected, ready.read(ready.call()))
        except Exception as raised:  # any exception is the outcome of the case
            quantity, error = error_line(raised), math.inf
    outcome = RIGHT if error <= row.limit else WRONG
    return replace(row, outcome=outcome, quantity=str(quantity), error=error)


def _runs(precisions: Sequence[Precision]) -> Iterator[tuple[Precision, str]]:
    first, *others = precisions
    yield from ((first, kind) for kind in KINDS)
    yield from ((precision, "training") for precision in others)


@lru_cache(maxsize=8)  # the backends of a case share it
def _reference(shape: str, kind: str, feature: Feature, precision: Precision) -> tuple[Work, Results]:
    work = make_work(parse_shape(shape), kind, feature, precision)
    return work, reference(work, dtype=torch.float64)


def _refusal(work: Work, backend: Backend) -> str:
    """Return why a backend cannot run the work, or "" if it can. "scan" runs every call."""
    if backend == "scan":
        return ""
    params = {name: jnp.asarray(a, work.dtype) for name, a in work.weights.items()}
    lengths = None if work.lengths is None else work.lengths.numpy()
    try:
        jax_lstm.choose_backend(
            params, jnp.asarray(work.x, work.dtype), backend=backend, lengths=lengths, time_major=True
        )
    except ValueError as refused:
        return first_line(refused)
    return ""


def _line(row: Row) -> str:
    what = " ".join(filter(None, (row.shape, row.feature, row.backend, row.options, row.precision, row.kind)))
    error = "" if row.outcome == CANNOT_RUN else f", error {row.error:.1e}, limit {row.limit:.1e}"
    return f"{row.outcome}: {what}: {row.quantity}{error}"


def _plain(row: Row) -> dict[str, str]:
    return {name: value if isinstance(value, str) else f"{value:.4g}" for name, value in asdict(row).items()}
