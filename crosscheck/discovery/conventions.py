"""The 288 conventions in which a port may read the weights of an LSTM cell.

They are 24 gate orders, recurrent weights transposed or not, and six bias rules. A wrong one never fails by shape: the
port runs, and computes something else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import permutations, product
from typing import Any

import numpy as np

TORCH_ORDER = "ifgo"


class BiasRule(Enum):
    """What happens to the two biases: a factor for each, and what is added to the sum of the forget gate."""

    AS_STORED = (1, 1, 0, "")
    FORGET_PLUS_ONE = (1, 1, 1, "1 added to the forget gate's bias at run time")  # Haiku
    FORGET_MINUS_ONE = (1, 1, -1, "1 subtracted from the forget gate's bias, as if stored for a cell that adds it")
    WITHOUT_HH = (1, 0, 0, "bias_hh ignored")
    WITHOUT_IH = (0, 1, 0, "bias_ih ignored")
    DOUBLED = (2, 2, 0, "the sum of the biases added twice")  # their sum is stored in both places

    def __init__(self, ih: int, hh: int, forget: int, phrase: str) -> None:
        self.ih, self.hh, self.forget, self.phrase = ih, hh, forget, phrase


@dataclass(frozen=True)
class Convention:
    """How a port reads the arrays of an LSTM cell. The default is torch's convention. ``str()`` gives it in words.

    Attributes:
      gates: the gates of the four stored blocks, in order.
      transposed: whether the transpose of each gate's recurrent block is used.
      biases: the bias rule.
    """

    gates: str = TORCH_ORDER
    transposed: bool = False
    biases: BiasRule = BiasRule.AS_STORED

    def __post_init__(self) -> None:
        if sorted(self.gates) != sorted(TORCH_ORDER):
            raise ValueError(f"gates must be the letters i, f, g and o in some order, like 'igfo'; got {self.gates!r}.")

    @property
    def is_torch(self) -> bool:
        """Whether this is torch's convention."""
        return self == Convention()

    def read(self, cell: Mapping[str, Any]) -> dict[str, Any]:
        """Return the weights, in torch's layout, with which a port of this convention computes if it gets ``cell``.

        Args:
          cell: weight_ih ``[4H, D]``, weight_hh ``[4H, H]``, and bias_ih and bias_hh ``[4H]`` if there are biases. They
            are NumPy arrays or torch tensors. Gradients flow through tensors. Other entries do not change.

        Returns:
          Weights of the same names, shapes and dtypes. An ignored bias is zeros. Without biases there are no biases,
          unless something is added at run time: this is then bias_ih, beside a bias_hh of zeros.

        Raises:
          ValueError: a matrix is missing or has no four blocks, or ``transposed`` and the blocks are not square.
        """
        order = [self.gates.index(gate) for gate in TORCH_ORDER]
        read = self._moved(cell, order)
        for name, factor in (("bias_ih", self.biases.ih), ("bias_hh", self.biases.hh)):
            if name in read:
                read[name] = factor * read[name]
        return _with_added(read, TORCH_ORDER.index("f"), self.biases.forget)

    def write(self, cell: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arrays with which a port of this convention computes what ``cell`` computes in torch.

        This is the inverse of `read`. A bias that the port ignores becomes zeros, and its values are added to the
        other bias.

        Raises:
          ValueError: as `read`, or the ignored bias is not zero and there is no other bias.
        """
        order = [TORCH_ORDER.index(gate) for gate in self.gates]
        written = self._moved(cell, order)
        for kept, ignored, factor in (("bias_ih", "bias_hh", self.biases.hh), ("bias_hh", "bias_ih", self.biases.ih)):
            if factor == 0 and ignored in written:
                if kept in written:
                    written[kept] = written[kept] + written[ignored]
                elif bool((written[ignored] != 0).any()):
                    raise ValueError(
                        f"{ignored} must be zero, since a port of this convention ignores it; got other values."
                    )
                written[ignored] = 0 * written[ignored]
        if self.biases is BiasRule.DOUBLED:
            written |= {name: written[name] / 2 for name in ("bias_ih", "bias_hh") if name in written}
        return _with_added(written, self.gates.index("f"), -self.biases.forget)

    def _moved(self, cell: Mapping[str, Any], order: list[int]) -> dict[str, Any]:
        """Put blocks into another order, and transpose recurrent blocks, which is its own inverse."""
        hidden = _hidden_size(cell)
        moved = dict(cell)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            if cell.get(name) is None:
                moved.pop(name, None)
                continue
            blocks = cell[name].reshape(4, hidden, *cell[name].shape[1:])[np.array(order)]
            if name == "weight_hh" and self.transposed:
                if blocks.shape[1] != blocks.shape[2]:
                    raise ValueError(f"weight_hh must be [4H, H] to be read transposed; got {_shape(cell[name])}.")
                blocks = blocks.swapaxes(1, 2)
            moved[name] = blocks.reshape(cell[name].shape)
        return moved

    def __str__(self) -> str:
        order = "gate order " + " ".join(self.gates) + (" (torch's)" if self.gates == TORCH_ORDER else "")
        departures = [self.biases.phrase] if self.biases.phrase else []
        if self.transposed:
            departures.insert(0, "each gate's recurrent weights transposed")
        return order + (", with " + " and ".join(departures) if departures else "")


CONVENTIONS: tuple[Convention, ...] = tuple(
    Convention("".join(gates), transposed, biases)
    for gates, transposed, biases in product(permutations(TORCH_ORDER), (False, True), BiasRule)
)


def _with_added(cell: dict[str, Any], block: int, by: int) -> dict[str, Any]:
    """Add ``by`` to one block of bias_ih, or of bias_hh if it is the only bias."""
    if by == 0:
        return cell
    hidden = _hidden_size(cell)
    if "bias_ih" not in cell and "bias_hh" not in cell:
        cell |= dict.fromkeys(("bias_ih", "bias_hh"), 0 * cell["weight_hh"][:, 0])
    name = "bias_ih" if "bias_ih" in cell else "bias_hh"
    bias = 1 * cell[name]  # a copy that torch can differentiate
    bias[block * hidden : (block + 1) * hidden] += by
    return cell | {name: bias}


def _hidden_size(cell: Mapping[str, Any]) -> int:
    for name in ("weight_ih", "weight_hh"):
        if name not in cell:
            raise ValueError(f"a cell must have weight_ih and weight_hh; got {', '.join(cell) or 'nothing'}.")
    rows = int(cell["weight_hh"].shape[0])
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        wanted = 2 if name.startswith("weight") else 1
        array = cell.get(name)
        if array is not None and (len(array.shape) != wanted or array.shape[0] != rows or rows % 4):
            raise ValueError(f"{name} must be {'[4H, in]' if wanted == 2 else '[4H]'}; got shape {_shape(array)}.")
    return rows // 4


def _shape(array: Any) -> tuple[int, ...]:
    return tuple(array.shape)
