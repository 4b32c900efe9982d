"""One matrix on [x, h], one bias, and a number that the library adds to the forget gate when the cell runs.

    w [D + H, 4H]     b [4H]     gates i g f o

Haiku's hk.LSTM and TensorFlow 1's LSTM cells have this layout. torch's layout has no place for a number that is added
at run time. Therefore it goes into the bias, and that sum rounds.
"""

from __future__ import annotations

from jax_lstm.convert import gates
from jax_lstm.convert.arrays import Array, concrete
from jax_lstm.convert.layers import CellWeights, make_cell

ORDER = "igfo"


def read_joint(w: Array, b: Array, where: str, names: tuple[str, str]) -> CellWeights:
    """Return a cell with the bias as it is stored. ValueError, which has ``where`` and ``names``, if shapes misfit."""
    hidden = b.shape[0] // 4 if b.ndim == 1 else 0
    if w.ndim != 2 or not hidden or b.shape[0] != 4 * hidden or w.shape[1] != 4 * hidden or w.shape[0] <= hidden:
        raise ValueError(
            f"{where} must have {names[0]} [D + H, 4H] and {names[1]} [4H]; got {names[0]} {tuple(w.shape)} and "
            f"{names[1]} {tuple(b.shape)}."
        )
    weights = gates.reorder(w.T, ORDER, gates.TORCH)
    return make_cell(weights[:, :-hidden], weights[:, -hidden:], gates.reorder(b, ORDER, gates.TORCH))


def add_to_forget(bias: Array, number: float, library: str, strict: bool) -> Array:
    """Return ``bias [4H]``, in torch's order, with a number added to the forget gate's block.

    The other gates keep their bits.

    Args:
      bias: the bias.
      number: what the library adds when the cell runs, or its negative on the way back. 0 changes no bit.
      library: its name, for the error.
      strict: refuse if a sum rounds.

    Raises:
      ValueError: ``strict``, and a sum rounds or is not known because of a transformation.
    """
    if number == 0:  # in a sum, -0 would become +0
        return bias
    blocks = gates.split_gates(bias)
    forget = blocks["f"]
    blocks["f"] = forget + number
    if strict:
        moved, given = (concrete(a, "strict=True") for a in (blocks["f"], forget))
        lost = (moved - number != given) | (moved - given != number)  # if the sum is not exact, one of these is true
        if lost.any():
            raise ValueError(
                f"strict=True: {library} adds {abs(number):g} to the forget bias when it runs, and {int(lost.sum())} "
                f"of {lost.size} forget biases cannot be moved by {abs(number):g} without rounding. Leave strict out "
                "to round them."
            )
    return gates.join_gates(list(blocks.values()))
