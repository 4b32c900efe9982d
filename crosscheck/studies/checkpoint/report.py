"""The networks of a checkpoint as a table, sentences and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crosscheck.report.table import Table
from crosscheck.studies.checkpoint.contents import Checkpoint, Skipped
from crosscheck.studies.checkpoint.errors import listed, printable
from crosscheck.studies.checkpoint.networks import FoundLSTM, find_networks


def nothing_to_check(file: Path, prefix: str, read: Checkpoint, skipped: list[Skipped]) -> str:
    """Return why there is no LSTM to check, and what there is instead."""
    if skipped:
        others = "; ".join(f"{s.kind} at {s.name!r}: {s.reason}" for s in skipped[:4])
        more = f"; and {len(skipped) - 4} more" if len(skipped) > 4 else ""
        return f"{printable(str(file))}: no LSTM that can be checked. {others}{more}"
    known = [entry.name for entry in find_networks(read)]
    if prefix and known:
        return f"--prefix {printable(prefix)}: there is no LSTM at or below it; known prefixes: {listed(known)}"
    shapes = [f"{name or '(no name)'} {list(array.shape)}" for name, array in read.arrays.items()]
    instead = f"{listed(shapes) or 'no arrays at all'}{'; not made: ' * bool(read.skipped)}{not_made_text(read)}"
    return f"{printable(str(file))}: no LSTM in it; found instead: {instead}"


def not_made_text(read: Checkpoint) -> str:
    """Return the objects of other classes that were not made."""
    return listed([f"{kind} at {place or 'the top level'}" for kind, place in read.skipped.items()])


def network_table(found: Sequence[FoundLSTM]) -> Table:
    """Return the sizes and options of each network."""
    numbers = ("inputs", "hidden", "projection", "layers", "directions")
    columns = ("LSTM", "kind", *numbers, "bias", "dtype", "weight_ih", "weight_hh", "parameters")
    rows = []
    for lstm in found:
        network, params = lstm.network, lstm.stack_params
        sizes = (network.input_size, network.hidden_size, network.proj_size or "-")
        options = (network.num_layers, network.directions, "yes" if network.bias else "no")
        shapes = (list(params["weight_ih_l0"].shape), list(params["weight_hh_l0"].shape))
        total = f"{sum(array.size for array in params.values()):,}"
        cells = (lstm.name, lstm.kind, *sizes, *options, _dtypes(lstm), *shapes, total)
        rows.append(tuple(map(str, cells)))
    return Table("", columns, tuple(rows), numeric=(*numbers, "parameters"))


def _dtypes(lstm: FoundLSTM) -> str:
    return ", ".join(dict.fromkeys(str(array.dtype) for array in lstm.params.values()))


def to_json(
    file: Path, read: Checkpoint, found: Sequence[FoundLSTM], skipped: Sequence[Skipped], out: Path | None
) -> dict[str, Any]:
    """Return what was found in the file. ``out`` is where the networks were exported to."""
    return {
        "file": printable(str(file)),
        "export": None if out is None else printable(str(out)),
        "lstms": [
            {
                "prefix": printable(lstm.prefix),
                **asdict(lstm.network),  # torch's class replaces its kind, "lstm"
                "kind": lstm.kind,
                "notes": list(lstm.notes),
                "params": {n: {"shape": list(a.shape), "dtype": str(a.dtype)} for n, a in lstm.params.items()},
            }
            for lstm in found
        ],
        "skipped": [{"prefix": printable(s.prefix), "kind": s.kind, "reason": s.reason} for s in skipped],
        "not_made": {printable(kind): printable(place) for kind, place in read.skipped.items()},
    }
