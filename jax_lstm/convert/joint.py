"""One matrix on [x, h], one bias, and a number that is added to the forget gate when the cell runs.

    w [D + H, 4H]     b [4H]     gates i g f o

Haiku's hk.LSTM and TensorFlow 1's LSTM cells keep their weights so. torch's layout has no place for a number that is
added at run time: it goes into the bias, and that sum rounds.
"""

from __future__ import annotations

from typing import Any

from jax_lstm.convert import gates
from jax_lstm.convert.layers import Cell, known, with_two_biases

ORDER = "igfo"


def read_joint(w: Any, b: Any, where: str, names: tuple[str, str]) -> Cell:
    """Return a cell with the bias as it is stored. ValueError, with ``where`` and ``names``, if the shapes misfit."""
    hidden = b.shape[0] // 4 if b.ndim == 1 else 0
    if w.ndim != 2 or not hidden or b.shape[0] != 4 * hidden or w.shape[1] != 4 * hidden or w.shape[0] <= hidden:
        raise ValueError(
            f"{where} must have {names[0]} [D + H, 4H] and {names[1]} [4H]; got {names[0]} {tuple(w.shape)} and "
            f"{names[1]} {tuple(b.shape)}."
        )
    weights = gates.reordered(w.T, ORDER, gates.TORCH)
    return with_two_biases(weights[:, :-hidden], weights[:, -hidden:], gates.reordered(b, ORDER, gates.TORCH))


def add_to_forget(bias: Any, number: float, library: str, strict: bool) -> Any:
    """Return ``bias``, in torch's order, with a number added to the forget gate's. The other gates' keep their bits.

    Args:
      number: what the library adds when the cell runs, or its negative on the way back; 0 changes no bit.
      library: its name, for the error.
      strict: refuse if a sum rounds. ValueError.
    """
    if number == 0:  # in a sum, -0 would become +0
        return bias
    blocks = gates.by_gate(bias)
    forget = blocks["f"]
    blocks["f"] = forget + number
    if strict:
        moved, given = (known(a, "strict=True") for a in (blocks["f"], forget))
        lost = (moved - number != given) | (moved - given != number)  # if the sum is not exact, one of these is
        if lost.any():
            raise ValueError(
                f"strict=True: {library} adds {abs(number):g} to the forget bias when it runs, and {int(lost.sum())} "
                f"of {lost.size} forget biases cannot be moved by {abs(number):g} without rounding. Leave strict out "
                "to round them."
            )
    return gates.fused(list(blocks.values()))
