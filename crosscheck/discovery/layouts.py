"""Where a library keeps the weights of an LSTM cell: every layout that the shapes of its arrays allow.

Matrices may be one fused array for the input and one for the state, one joint array over [x, h] or [h, x], or one array
per gate instead of each. There may be no, one or two biases: fused, stacked or per gate. Leading axes of length 1 are
dropped. This module decides only which leaf can be what. The search finds out what a block means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations, product
from typing import TypeAlias

import numpy as np

Shape: TypeAlias = tuple[int, ...]
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@dataclass(frozen=True)
class Form:
    """How a leaf holds a matrix ``[out, in]`` or a bias ``[out]``, with a gate axis before it if fused.

    Attributes:
      view: the shape to which the leaf is reshaped.
      axes: the order of axes after that.
      words: the form for readers.
      final: whether the transpose of a square block is another form. If not, the search must also try the transpose.
      part: what is taken after that: (n,) is index n of the first axis, (start, stop) are columns, () is all.
    """

    view: Shape
    axes: tuple[int, ...]
    words: str
    final: bool = False
    part: tuple[int, ...] = ()

    def of(self, leaf: np.ndarray) -> np.ndarray:
        """Return a view into ``leaf``, which can also be written to. ``leaf`` must be contiguous."""
        whole = leaf.reshape(self.view).transpose(self.axes)
        if len(self.part) == 1:
            whole = whole[self.part[0]]
        return whole[..., slice(*self.part)] if len(self.part) == 2 else whole


@dataclass(frozen=True)
class Stored:
    """Four blocks ``[4, H, in]`` or ``[4, H]``, in one fused leaf or in four leaves, one per gate."""

    leaves: tuple[int, ...]
    form: Form

    @property
    def fused(self) -> bool:
        """Whether one leaf holds all four blocks."""
        return len(self.leaves) == 1

    def take(self, leaves: Sequence[np.ndarray]) -> np.ndarray:
        """Return the blocks."""
        blocks = [self.form.of(np.ascontiguousarray(leaves[n])) for n in self.leaves]
        return blocks[0] if self.fused else np.stack(blocks)

    def put(self, leaves: Sequence[np.ndarray], blocks: np.ndarray) -> None:
        """Write the blocks into the leaves."""
        for n, block in zip(self.leaves, blocks[None] if self.fused else blocks, strict=True):
            self.form.of(leaves[n])[...] = block

    def ordered(self, order: Sequence[int]) -> Stored:
        """Return the same with its leaves in another order."""
        return replace(self, leaves=tuple(self.leaves[n] for n in order))


@dataclass(frozen=True)
class Layout:
    """What every leaf is, but not what the blocks mean."""

    input_size: int
    hidden_size: int
    input: Stored
    recurrent: Stored
    biases: tuple[Stored, ...]

    @property
    def joint(self) -> bool:
        """Whether the same leaves hold both matrices."""
        return self.input.leaves == self.recurrent.leaves

    @property
    def groups(self) -> tuple[Stored, ...]:
        """The matrices and biases, in the order of ``NAMES``."""
        return (self.input, self.recurrent, *self.biases)

    def ordered(self, orders: Sequence[Sequence[int]]) -> Layout:
        """Return the layout with the arrays of each group in another order. A fused group does not change."""
        pairs = zip(self.groups, orders, strict=True)
        groups = [group if group.fused else group.ordered(order) for group, order in pairs]
        return replace(self, input=groups[0], recurrent=groups[1], biases=tuple(groups[2:]))

    def take(self, leaves: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Return the arrays by torch's names and in torch's shapes. The blocks are in stored order."""
        taken = {name: group.take(leaves) for name, group in zip(NAMES, self.groups, strict=False)}
        rows = 4 * self.hidden_size
        return {name: np.array(blocks.reshape(rows, *blocks.shape[2:])) for name, blocks in taken.items()}

    def put(self, leaves: Sequence[np.ndarray], cell: dict[str, np.ndarray]) -> None:
        """Write arrays by torch's names into the leaves."""
        for name, group in zip(NAMES, self.groups, strict=False):
            group.put(leaves, cell[name].reshape(4, self.hidden_size, *cell[name].shape[1:]))


def sizes(shapes: Sequence[Shape], input_size: int | None, hidden_size: int | None) -> list[tuple[int, int]]:
    """Return all (D, H) for which a cell with no, one or two biases has as many numbers as the leaves."""
    total = sum(int(np.prod(shape)) for shape in shapes)
    hiddens = {d // part for shape in shapes for d in shape for part in (1, 4, 8) if d and d % part == 0}
    possible = set()
    for hidden, biases in product(hiddens, range(3)):
        wide, rest = divmod(total, 4 * hidden)
        size = wide - hidden - biases
        if rest == 0 and size > 0 and input_size in (None, size) and hidden_size in (None, hidden):
            possible.add((size, hidden))
    return sorted(possible)


def possible_layouts(shapes: Sequence[Shape], input_size: int, hidden_size: int) -> list[Layout]:
    """Return every layout of these sizes that uses each leaf. Arrays per gate have the same gate order in every group.

    A cell's results do not show which of two biases belongs to the input. Therefore biases have the order of the
    matrices.
    """
    layouts = []
    for inputs, recurrent in _matrices(shapes, input_size, hidden_size):
        used = {*inputs.leaves, *recurrent.leaves}
        rest = tuple(n for n in range(len(shapes)) if n not in used)
        for biases in _biases(shapes, rest, hidden_size):
            if recurrent.leaves < inputs.leaves and len({bias.leaves for bias in biases}) == 2:
                biases = biases[::-1]
            layouts.append(Layout(input_size, hidden_size, inputs, recurrent, biases))
    return list(dict.fromkeys(layouts))


def other_orders(layout: Layout) -> list[list[tuple[int, ...]]]:
    """Return the orders to try for the arrays in each group.

    One group keeps its order: a fused group, if there is one. The search tries all gate orders anyway, so that only the
    order of one group relative to another matters.
    """
    kept: list[tuple[int, ...]] = [(0, 1, 2, 3)]
    fixed = next((n for n, group in enumerate(layout.groups) if group.fused), 0)
    return [
        kept if group.fused or n == fixed or (n == 1 and layout.joint) else list(permutations(range(4)))
        for n, group in enumerate(layout.groups)
    ]


def with_other_orders(layout: Layout) -> Iterator[Layout]:
    """Yield the layout with every order of the arrays in each group."""
    for chosen in product(*other_orders(layout)):
        if layout.joint:
            chosen = (chosen[0], chosen[0], *chosen[2:])
        yield layout.ordered(chosen)


def with_one_order(layout: Layout) -> Iterator[Layout]:
    """Yield fewer layouts: all groups of arrays per gate share one order, relative to a fused group."""
    fused = [group.fused for group in layout.groups]
    mixed = any(fused) and not all(fused)
    for order in list(permutations(range(4)))[: None if mixed else 1]:
        yield layout.ordered([order] * len(fused))


def _matrices(shapes: Sequence[Shape], input_size: int, hidden_size: int) -> Iterator[tuple[Stored, Stored]]:
    for inputs in _groups(shapes, range(len(shapes)), lambda s, one: _matrix(s, hidden_size, input_size, one)):
        rest = [n for n in range(len(shapes)) if n not in inputs.leaves]
        for recurrent in _groups(shapes, rest, lambda s, one: _matrix(s, hidden_size, hidden_size, one)):
            yield inputs, recurrent
    wide = input_size + hidden_size
    for joint in _groups(shapes, range(len(shapes)), lambda s, one: _matrix(s, hidden_size, wide, one)):
        for words, x, h in (
            ("[x, h]", (0, input_size), (input_size, wide)),
            ("[h, x]", (hidden_size, wide), (0, hidden_size)),
        ):
            form = replace(joint.form, words=f"{joint.form.words} on {words}", final=False)
            yield replace(joint, form=replace(form, part=x)), replace(joint, form=replace(form, part=h))


def _biases(shapes: Sequence[Shape], rest: tuple[int, ...], hidden_size: int) -> Iterator[tuple[Stored, ...]]:
    """Yield up to two biases that together use each leaf of ``rest``.

    If there are two biases per gate, a bias is four leaves in a row, or every other leaf.
    """
    if not rest:
        yield ()
        return
    for group in _groups(shapes, rest, lambda s, one: _bias(s, hidden_size, one)):
        if rest[0] not in group.leaves or (len(rest) == 8 and group.leaves not in (rest[:4], rest[::2])):
            continue
        others = tuple(n for n in rest if n not in group.leaves)
        if len(group.form.view) == 3:  # both at once
            if not others:
                halves = enumerate(("first half", "second half"))
                yield tuple(replace(group, form=replace(group.form, words=words, part=(n,))) for n, words in halves)
            continue
        for more in _biases(shapes, others, hidden_size):
            if len(more) < 2:
                yield (group, *more)


def _groups(
    shapes: Sequence[Shape], among: Sequence[int], forms: Callable[[Shape, bool], Iterator[Form]]
) -> Iterator[Stored]:
    """Yield single fused leaves, then four leaves of one shape. ``forms(shape, fused)``: what a leaf can be."""
    for n in among:
        yield from (Stored((n,), form) for form in forms(shapes[n], True))
    by_shape: dict[Shape, list[int]] = {}
    for n in among:
        by_shape.setdefault(shapes[n], []).append(n)
    for shape, same in by_shape.items():
        for form in forms(shape, False):
            yield from (Stored(four, form) for four in combinations(same, 4))


def _matrix(shape: Shape, out: int, wide: int, fused: bool) -> Iterator[Form]:
    """Yield the forms in which one leaf is a matrix ``[out, wide]``, or four of them if ``fused``."""
    one = (
        ((out, wide), Form((out, wide), (0, 1), "[out, in]", final=True)),
        ((wide, out), Form((wide, out), (1, 0), "[in, out]", final=True)),
    )
    four = (
        ((4 * out, wide), Form((4, out, wide), (0, 1, 2), "[out, in]")),
        ((wide, 4 * out), Form((wide, 4, out), (1, 2, 0), "[in, out]")),
        ((4, out, wide), Form((4, out, wide), (0, 1, 2), "[gate, out, in]", final=True)),
        ((4, wide, out), Form((4, wide, out), (0, 2, 1), "[gate, in, out]", final=True)),
        ((wide, 4, out), Form((wide, 4, out), (1, 2, 0), "[in, gate, out]")),
    )
    for s in _without_leading_ones(shape):
        yield from (form for stored, form in (four if fused else one) if s == stored)


def _bias(shape: Shape, out: int, fused: bool) -> Iterator[Form]:
    for s in _without_leading_ones(shape):
        if not fused:
            if s == (out,):
                yield Form((out,), (0,), "[out]")
        elif s in ((4 * out,), (4, out)):
            yield Form((4, out), (0, 1), "[out]" if len(s) == 1 else "[gate, out]")
        elif s in ((8 * out,), (2, 4 * out), (2, 4, out)):
            yield Form((2, 4, out), (0, 1, 2), "both")


def _without_leading_ones(shape: Shape) -> Iterator[Shape]:
    yield shape
    while shape and shape[0] == 1:
        shape = shape[1:]
        yield shape
