"""How libraries nest cells: under RNN, under Bidirectional, numbered in a stack, or in lists of Python's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
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
        any of these.
      read: a tree -> the cell, or None where the tree is not one.
      refuse: raises, with what was expected in place of a tree.
      bidirectional: cells that stand one after another are forward and reverse of one layer.
    """
    refuse_whole = lambda _: refuse(tree)  # an error shows what came, not the part of it that was reached
    layers = _layers(tree, read, refuse_whole)
    if bidirectional and all(len(layer) == 1 for layer in layers):
        if len(layers) % 2:
            raise ValueError(
                "bidirectional=True wants cells in pairs, forward and reverse; got "
                f"{len(layers)} cell{'s' * (len(layers) > 1)}."
            )
        return [forward + reverse for forward, reverse in zip(layers[::2], layers[1::2], strict=True)]
    return layers


def _layers(tree: Any, read: Callable[[Any], Cell | None], refuse: Callable[[Any], NoReturn]) -> list[Layer]:
    cell = read(tree)
    if cell is not None:
        return [(cell,)]
    items: list[Any] = []
    if isinstance(tree, (list, tuple)):
        items = list(tree)
    elif isinstance(tree, Mapping) and set(tree) & set(DIRECTIONS):
        return [_both_directions(tree, read, refuse)]
    elif isinstance(tree, Mapping):
        items = list(tree.values()) if len(tree) == 1 else in_order(tree)
    if not items:
        refuse(tree)
    return [layer for item in items for layer in _layers(item, read, refuse)]


def _both_directions(tree: Mapping[Any, Any], read: Callable[[Any], Cell | None], refuse: Callable[[Any], NoReturn]):
    if set(tree) != set(DIRECTIONS):
        refuse(tree)
    found = [_layers(tree[name], read, refuse) for name in DIRECTIONS]
    if any(len(layers) != 1 or len(layers[0]) != 1 for layers in found):
        refuse(tree)
    return tuple(cell for layers in found for cell in layers[0])


def in_order(tree: Mapping[Any, Any]) -> list[Any]:
    """The entries of a mapping by their numbers: keys 0, 1, ... or names with one stem and such numbers; else none."""
    found = {key: _NUMBERED.fullmatch(str(key)) for key in tree}
    numbers = {int(match[2]): key for key, match in found.items() if match}
    stems = {match[1] for match in found.values() if match}
    if len(numbers) != len(tree) or len(stems) != 1 or sorted(numbers) != list(range(len(tree))):
        return []
    return [tree[numbers[n]] for n in range(len(tree))]
