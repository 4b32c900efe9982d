"""LSTMs as Flax parameters, a safetensors file and an orbax directory. Both are lossless; both are written or none."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import safetensors.numpy
from flax.traverse_util import unflatten_dict

from crosscheck.core.problem import Arrays
from crosscheck.studies.checkpoint.errors import CannotExport
from crosscheck.studies.checkpoint.networks import FoundLSTM
from jax_lstm._src.files import unfinished

SAFETENSORS, ORBAX = "params.safetensors", "orbax"


def export(lstms: Sequence[FoundLSTM], out: str | os.PathLike[str]) -> None:
    """Make the folder ``out`` with ``params.safetensors`` and ``orbax/``, which have the same weights.

    The file has them by dotted name, "encoder.lstm.weight_ih_l0". The directory, an orbax StandardCheckpointer's, has
    them as the nested tree. Under an LSTM's prefix are the params of jax_lstm.linen.LSTM, or of linen.LSTMCell for a
    cell, in the dtypes of the checkpoint. The folder is written aside and renamed: it is there whole or not at all.

    Args:
      lstms: the LSTMs to write.
      out: the folder.

    Raises:
      CannotExport: ``out`` exists, its parent does not, two LSTMs have one name, or a name is no valid text.
      OSError: writing failed. Nothing is left behind.
    """
    out = Path(out)
    check_out(out)
    flat = _flatten(lstms, out)
    with unfinished(out.with_name(f".{out.name}.{os.getpid()}")) as aside:
        aside.mkdir()
        # save_file would make a file that only its owner may read.
        (aside / SAFETENSORS).write_bytes(safetensors.numpy.save(flat))
        _write_orbax(flat, aside / ORBAX)
        check_out(out)
        aside.rename(out)


def check_out(out: Path) -> None:
    """Raise CannotExport if the folder cannot be made, before any work is done."""
    if os.path.lexists(out):
        raise CannotExport(out, "it exists already, and nothing is written over; remove it or name another folder")
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise CannotExport(out, f"there is no folder {str(out.parent)!r} that can be written to; make it first")


def _flatten(lstms: Sequence[FoundLSTM], out: Path) -> Arrays:
    flat: Arrays = {}
    for lstm in lstms:
        for entry, array in lstm.params.items():
            name = f"{lstm.prefix}.{entry}" if lstm.prefix else entry
            if name in flat:
                raise CannotExport(out, f"two LSTMs have an entry {name!r}; export only one of them, with --prefix")
            flat[name] = np.ascontiguousarray(array)
    for name in flat:
        parts = name.split(".")
        above = next((p for n in range(1, len(parts)) if (p := ".".join(parts[:n])) in flat), None)
        if above is not None:
            raise CannotExport(out, f"{above!r} is an array and has {name!r} below it; export only one of them")
        if not name.isprintable() or "" in parts:
            raise CannotExport(out, f"the name {name!r} is no valid path in a tree; rename it in the checkpoint")
    return flat


def _write_orbax(flat: Arrays, folder: Path) -> None:
    import orbax.checkpoint  # here, since importing it is slow and no other command needs it

    with _silent(), orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.absolute(), unflatten_dict(flat, sep="."))


@contextmanager
def _silent() -> Iterator[None]:
    """Keep orbax from logging a traceback for an error that it also raises."""
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)
