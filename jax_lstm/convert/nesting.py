"""How libraries nest cells: under RNN, under Bidirectional, numbered in a stack, or in lists of Python's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from jax_lstm.convert.layers import Cell, Layer

DIRECTIONS = ("forward_rnn", "backward_rnn")  # flax.linen's and flax.nnx's Bidirectional
_NUMBERED = re.compile(r"(.*?)_?(\d+)")


def find_layers(
    tree: Any, read: Callable[[Any], Cell | None], refuse: Callable[[Any], NoReturn], bidirectional: bool = False
) -> list[Layer]:
    """The layers of a tree, in order.

    Args:
      tree: a cell; a mapping with one entry, such as "params", "cell" or "layers", around any of these; a mapping of
        "forward_rnn" and "backward_rnn"; a mapping with numbered entries, such as layers_0, layers_1, or a sequence, of
        layers; a pair of cells is a layer of two directions where ``bidirectional``.
      read: a tree -> the cell, or None where the tree is not one.
      refuse: raises, with what was expected in place of a tree.
      bidirectional: cells that stand one after another are forward and reverse of one layer.
    """
    cell = read(tree)
    if cell is not None:
        return [(cell,)]
    refuse_whole = lambda _: refuse(tree)  # an error shows what came, not the part of it that was reached
    if isinstance(tree, Mapping):
        if len(tree) == 1 and isinstance(inner := next(iter(tree.values())), (Mapping, Sequence)):
            return find_layers(inner, read, refuse_whole, bidirectional)
        if set(tree) == set(DIRECTIONS):
            found = [find_layers(tree[name], read, refuse_whole) for name in DIRECTIONS]
            if any(len(layers) != 1 or len(layers[0]) != 1 for layers in found):
                refuse(tree)
            return [tuple(cell for layers in found for cell in layers[0])]
        items = in_order(tree)
    else:
        items = list(tree) if isinstance(tree, (list, tuple)) else []
    if not items:
        refuse(tree)
    layers = [layer for item in items for layer in find_layers(item, read, refuse_whole, bidirectional)]
    if bidirectional and all(len(layer) == 1 for layer in layers):
        if len(layers) % 2:
            raise ValueError(f"bidirectional=True wants cells in pairs, forward and reverse; got {len(layers)} cells.")
        return [a + b for a, b in zip(layers[::2], layers[1::2], strict=True)]
    return layers


def in_order(tree: Mapping[Any, Any]) -> list[Any]:
    """The entries of a mapping by their numbers: keys 0, 1, ... or names with one stem and such numbers; else none."""
    found = {key: _NUMBERED.fullmatch(str(key)) for key in tree}
    numbers = {int(match[2]): key for key, match in found.items() if match}
    stems = {match[1] for match in found.values() if match}
    if len(numbers) != len(tree) or len(stems) != 1 or sorted(numbers) != list(range(len(tree))):
        return []
    return [tree[numbers[n]] for n in range(len(tree))]


def keys_of(tree: Any, most: int = 8) -> str:
    """The leaves of a tree by their paths, for an error."""
    paths = list(_paths(tree))
    return ", ".join(paths[:most]) + (f", ... ({len(paths)} in all)" if len(paths) > most else "") or "nothing"


def _paths(tree: Any, above: str = ""):
    if isinstance(tree, Mapping):
        items = tree.items()
    elif isinstance(tree, (list, tuple)):
        items = enumerate(tree)  # type: ignore[assignment]
    else:
        shape = f" {tuple(tree.shape)}" if hasattr(tree, "shape") else ""
        yield (above or type(tree).__name__) + shape
        return
    for key, value in items:
        yield from _paths(value, f"{above}/{key}" if above else str(key))
