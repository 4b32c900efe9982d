"""TensorFlow 1's LSTM cells, by the names of a checkpoint's variables.

    {cell}/kernel [D + H, 4H] on [x, h]     {cell}/bias [4H]     gates i j f o (j is g)

That is Haiku's layout. **forget_bias is added to the forget gate when it runs**; it is an argument of the cell, 1.0
unless told otherwise, and no part of the checkpoint. States are (c, h). Source: ``BasicLSTMCell`` and ``LSTMCell`` in
tensorflow/python/ops/rnn_cell_impl.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jax_lstm._src.recognize import listed, refuse_tree
from jax_lstm.convert.arrays import read_array
from jax_lstm.convert.joint import add_to_forget, read_joint
from jax_lstm.convert.layers import Cell, joined

NAMES = ("kernel", "bias")
EXPECTED = "variables of TensorFlow 1's LSTM cells by name, such as 'rnn/basic_lstm_cell/kernel' and '.../bias'"
_CELL = re.compile(r"(?P<stem>(?:[^/]+/)*?)(?:cell_(?P<number>\d+)/)?(?P<cell>\w*lstm\w*)")
_REFUSED = {  # what LSTMCell may have besides, by the end of its name
    "w_f_diag": "peepholes",
    "w_i_diag": "peepholes",
    "w_o_diag": "peepholes",
    "projection/kernel": "a projection",
}


def from_tf1(
    variables: Mapping[str, Any],
    prefix: str = "",
    *,
    forget_bias: float = 1.0,
    strict: bool = False,
    dtype: Any = None,
) -> dict[str, Any]:
    """Reads BasicLSTMCell or LSTMCell of TensorFlow 1, or a MultiRNNCell of them, as a parameter tree of this package.

    Args:
      variables: arrays by the names of a checkpoint, as ``tf.train.load_checkpoint(path).get_tensor(name)`` gives them:
        "rnn/basic_lstm_cell/kernel" and "rnn/basic_lstm_cell/bias", or with "multi_rnn_cell/cell_0/", ... before the
        cell. All under ``prefix`` must be one stack's; an optimizer's, such as ".../kernel/Adam", are not.
      prefix: take only the variables whose names begin so, such as "bidirectional_rnn/fw/".
      forget_bias: the argument that the cell was made with. The checkpoint does not have it. TensorFlow's
        CudnnCompatibleLSTMCell, which reads the weights of CudnnLSTM, has 0.0.
      strict: refuse if adding ``forget_bias`` to a bias rounds.
      dtype: dtype to cast to; None keeps each array's own.

    Returns:
      A torch.nn.LSTM state dict as jax arrays, layers by the numbers of their cells. The bias, with ``forget_bias``
      added to its forget gate, becomes bias_ih, and bias_hh is zero. Not lossless: that sum rounds, by up to half an
      ulp of its own. With forget_bias=0.0 nothing rounds.

      A cell's options are no part of the checkpoint either: it is taken for activation=tanh without cell_clip.

    Raises:
      ValueError, TypeError: there are other variables under ``prefix``; the cell has peepholes or a projection;
        ``strict`` and a forget bias would round; or the layers do not fit one another.
    """
    if not isinstance(variables, Mapping):
        refuse_tree("variables", EXPECTED, variables)
    taken = {str(name): value for name, value in variables.items() if str(name).startswith(prefix)}
    for name in taken:
        what = next((what for end, what in _REFUSED.items() if name.endswith(f"/{end}")), "")
        if what:
            raise ValueError(f"variables have {name!r}, {what} of LSTMCell, which from_tf1 does not read.")
    cells = _by_cell(taken, variables, prefix)
    return joined([(_read_cell(cell, taken, forget_bias, strict, dtype),) for cell in cells])


def _by_cell(taken: Mapping[str, Any], variables: Mapping[str, Any], prefix: str) -> list[str]:
    """The names of the cells, from input to output. ValueError unless the variables are those of one stack."""
    owners = [name.rpartition("/")[0] for name in taken if name.rpartition("/")[2] in NAMES]
    found = {owner: _CELL.fullmatch(owner) for owner in owners}
    stems = {(match["stem"], match["number"] is None) for match in found.values() if match}
    numbers = {int(match["number"] or 0): owner for owner, match in found.items() if match}
    whole = len(owners) == len(taken) and all(found.values()) and len(stems) == 1
    if not whole or sorted(numbers) != list(range(len(found))):
        more = ""
        if len(stems) > 1 and all(found.values()):
            more = f" They are several networks: {listed(sorted(stem + '...' for stem, _ in stems))}."
        refuse_tree("variables", f"{EXPECTED}, and no others (prefix={prefix!r} chooses)", taken or variables, more)
    return [numbers[number] for number in sorted(numbers)]


def _read_cell(cell: str, variables: Mapping[str, Any], forget_bias: float, strict: bool, dtype: Any) -> Cell:
    missing = [f"{cell}/{name}" for name in NAMES if f"{cell}/{name}" not in variables]
    if missing:
        raise ValueError(f"variables lack {missing[0]!r}.")
    named = {name: variables[f"{cell}/{name}"] for name in NAMES}
    kernel, bias = (read_array(f"variables['{cell}/{name}']", value, dtype) for name, value in named.items())
    read = read_joint(kernel, bias, f"variables' {cell!r}", NAMES)
    return read | {"bias_ih": add_to_forget(read["bias_ih"], forget_bias, "TensorFlow 1", strict)}
