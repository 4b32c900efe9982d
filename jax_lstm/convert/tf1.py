"""TensorFlow 1's LSTM cells, by the names of a checkpoint's variables.

    {cell}/kernel [D + H, 4H] on [x, h]     {cell}/bias [4H]     gates i j f o (j is g)

This is Haiku's layout. **TensorFlow adds forget_bias to the forget gate when it runs**. It is an argument of the cell,
1.0 by default, and no part of the checkpoint. States are (c, h). Source: ``BasicLSTMCell`` and ``LSTMCell`` in
tensorflow/python/ops/rnn_cell_impl.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from jax.typing import DTypeLike

from jax_lstm._src.recognize import listed, refuse_tree
from jax_lstm.convert.arrays import AnyArray, Params, read_array
from jax_lstm.convert.joint import add_to_forget, read_joint
from jax_lstm.convert.layers import CellWeights, join_layers

NAMES = ("kernel", "bias")
EXPECTED = "variables of TensorFlow 1's LSTM cells by name, such as 'rnn/basic_lstm_cell/kernel' and '.../bias'"
_CELL = re.compile(r"(?P<stem>(?:[^/]+/)*?)(?:cell_(?P<number>\d+)/)?(?P<cell>\w*lstm\w*)")
_UNSUPPORTED = {  # what else LSTMCell may have, by the end of the variable's name
    "w_f_diag": "peepholes",
    "w_i_diag": "peepholes",
    "w_o_diag": "peepholes",
    "projection/kernel": "a projection",
}


def from_tf1(
    variables: Mapping[str, AnyArray],
    prefix: str = "",
    *,
    forget_bias: float = 1.0,
    strict: bool = False,
    dtype: DTypeLike | None = None,
) -> Params:
    """Read BasicLSTMCell or LSTMCell of TensorFlow 1, or a MultiRNNCell of them, as a parameter tree of this package.

    TensorFlow adds `forget_bias` to the forget gate when it runs. Here it is added to the forget bias, and this sum
    rounds by up to half an ulp of the result. With `forget_bias=0.0` nothing rounds.

    The checkpoint does not have the options of a cell. This function takes them to be activation=tanh without
    cell_clip.

    Args:
      variables: arrays by the names of a checkpoint, as `tf.train.load_checkpoint(path).get_tensor(name)` returns
        them: "rnn/basic_lstm_cell/kernel" `[D + H, 4H]` and "rnn/basic_lstm_cell/bias" `[4H]`. A MultiRNNCell has
        "multi_rnn_cell/cell_0/" and so on before the cell. All variables under `prefix` must belong to one stack.
        Variables of an optimizer, such as ".../kernel/Adam", do not.
      prefix: take only the variables whose names begin with this, such as "bidirectional_rnn/fw/".
      forget_bias: the argument with which the cell was made. The checkpoint does not have it. TensorFlow's
        CudnnCompatibleLSTMCell, which reads the weights of CudnnLSTM, has 0.0.
      strict: refuse if adding `forget_bias` to a bias rounds.
      dtype: the dtype to cast to. None keeps each array's own.

    Returns:
      A torch.nn.LSTM state dict as jax arrays, with layers in the order of the numbers of their cells. The bias, with
      `forget_bias` added to its forget gate, becomes `bias_ih`, and `bias_hh` is zero.

    Raises:
      TypeError: a variable is not a floating-point array that JAX can read.
      ValueError: there are other variables under `prefix`; the cell has peepholes or a projection; the layers do not
        fit one another; or `strict` is set and a forget bias rounds.

    Examples:
      >>> import numpy as np
      >>> from jax_lstm import convert
      >>> shapes = {"rnn/basic_lstm_cell/kernel": (8, 20), "rnn/basic_lstm_cell/bias": (20,)}
      >>> variables = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
      >>> params = convert.from_tf1(variables, prefix="rnn/", forget_bias=1.0)
      >>> params["bias_ih_l0"][5:10].tolist()  # the forget gate
      [1.0, 1.0, 1.0, 1.0, 1.0]
    """
    if not isinstance(variables, Mapping):
        refuse_tree("variables", EXPECTED, variables)
    taken = {str(name): value for name, value in variables.items() if str(name).startswith(prefix)}
    for name in taken:
        part = next((part for end, part in _UNSUPPORTED.items() if name.endswith(f"/{end}")), "")
        if part:
            raise ValueError(f"variables have {name!r}, {part} of LSTMCell, which from_tf1 does not read.")
    cells = _cells_in_order(taken, variables, prefix)
    return join_layers([(_read_cell(cell, taken, forget_bias, strict, dtype),) for cell in cells])


def _cells_in_order(taken: Mapping[str, AnyArray], variables: Mapping[str, AnyArray], prefix: str) -> list[str]:
    """Return the names of the cells, from input to output. ValueError unless the variables belong to one stack."""
    owners = [name.rpartition("/")[0] for name in taken if name.rpartition("/")[2] in NAMES]
    matches = {owner: _CELL.fullmatch(owner) for owner in owners}
    stems = {(match["stem"], match["number"] is None) for match in matches.values() if match}
    numbers = {int(match["number"] or 0): owner for owner, match in matches.items() if match}
    is_one_stack = len(owners) == len(taken) and all(matches.values()) and len(stems) == 1
    if not is_one_stack or sorted(numbers) != list(range(len(matches))):
        more = ""
        if len(stems) > 1 and all(matches.values()):
            more = f" They are several networks: {listed(sorted(stem + '...' for stem, _ in stems))}."
        refuse_tree("variables", f"{EXPECTED}, and no others (prefix={prefix!r} chooses)", taken or variables, more)
    return [numbers[number] for number in sorted(numbers)]


def _read_cell(
    cell: str, variables: Mapping[str, AnyArray], forget_bias: float, strict: bool, dtype: DTypeLike | None
) -> CellWeights:
    paths = [f"{cell}/{name}" for name in NAMES]
    if missing := [path for path in paths if path not in variables]:
        raise ValueError(f"variables lack {missing[0]!r}.")
    kernel, bias = (read_array(f"variables[{path!r}]", variables[path], dtype) for path in paths)
    weights = read_joint(kernel, bias, f"variables' {cell!r}", NAMES)
    return weights | {"bias_ih": add_to_forget(weights["bias_ih"], forget_bias, "TensorFlow 1", strict)}
