"""How libraries nest cells: under RNN, under Bidirectional, numbered in a stack, or in Python's own lists."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeAlias

from jax_lstm.convert.arrays import AnyTree
from jax_lstm.convert.layers import CellWeights, LayerWeights, group_directions

ReadTree: TypeAlias = Callable[[AnyTree], CellWeights | None]
Refuse: TypeAlias = Callable[[AnyTree], NoReturn]
DIRECTIONS = ("forward_rnn", "backward_rnn")  # flax.linen's and flax.nnx's Bidirectional
_NUMBERED = re.compile(r"(.*?)_?(\d+)")


def find_layers(tree: AnyTree, read: ReadTree, refuse: Refuse, bidirectional: bool = False) -> list[LayerWeights]:
    """Return the layers of a tree, in order.

    Args:
      tree: a cell; a mapping with one entry, such as "params", "cell" or "layers", around any of these; a mapping of
        "forward_rnn" and "backward_rnn"; a mapping with numbered entries, such as layers_0, layers_1, or a sequence, of
        any of these.
      read: returns the cell that a tree is, or None if it is not one.
      refuse: raises an error that says what was expected in place of a tree.
      bidirectional: whether cells that follow one another are forward and reverse of one layer.
    """
    refuse_whole = lambda _: refuse(tree)  # an error shows what came, not the branch of it that was reached
    layers = _layers(tree, read, refuse_whole)
    if bidirectional and all(len(layer) == 1 for layer in layers):
        return group_directions([layer[0] for layer in layers], 2)
    return layers


def _layers(tree: AnyTree, read: ReadTree, refuse: Refuse) -> list[LayerWeights]:
    cell = read(tree)
    if cell is not None:
        return [(cell,)]
    items: list[Any] = []
    if isinstance(tree, (list, tuple)):
        items = list(tree)
    elif isinstance(tree, Mapping) and set(tree) & set(DIRECTIONS):
        return [_both_directions(tree, read, refuse)]
    elif isinstance(tree, Mapping):
        items = list(tree.values()) if len(tree) == 1 else numbered_entries(tree)
    if not items:
        refuse(tree)
    return [layer for item in items for layer in _layers(item, read, refuse)]


def _both_directions(tree: Mapping[Any, AnyTree], read: ReadTree, refuse: Refuse) -> LayerWeights:
    if set(tree) != set(DIRECTIONS):
        refuse(tree)
    directions = [_layers(tree[name], read, refuse) for name in DIRECTIONS]
    if any(len(layers) != 1 or len(layers[0]) != 1 for layers in directions):
        refuse(tree)
    return tuple(cell for layers in directions for cell in layers[0])


def numbered_entries(tree: Mapping[Any, AnyTree]) -> list[AnyTree]:
    """Return a mapping's entries by their numbers: keys 0, 1, ..., or names with one stem and such numbers.

    The list is empty if the keys are others.
    """
    matches = {key: _NUMBERED.fullmatch(str(key)) for key in tree}
    numbers = {int(match[2]): key for key, match in matches.items() if match}
    stems = {match[1] for match in matches.values() if match}
    if len(numbers) != len(tree) or len(stems) != 1 or sorted(numbers) != list(range(len(tree))):
        return []
    return [tree[numbers[n]] for n in range(len(tree))]
