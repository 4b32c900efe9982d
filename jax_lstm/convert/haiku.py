"""Haiku's hk.LSTM: one layer, and stacks in hk.DeepRNN.

    {module}/linear: w [D + H, 4H] on [x, h], b [4H]     gates i g f o

One joint matrix, one bias, and **Haiku adds 1 to the forget gate when it runs**: b_f here is Haiku's plus 1.
States are (hidden, cell). TensorFlow 1's cells have the same layout, see tf1.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jax.typing import DTypeLike

from jax_lstm._src.recognize import refuse_tree
from jax_lstm.convert import gates
from jax_lstm.convert.arrays import AnyTree, Array, Params, namespace, read_array
from jax_lstm.convert.joint import ORDER, add_to_forget, read_joint
from jax_lstm.convert.layers import CellWeights, join_layers, only_one_direction, required_bias, split_layers

FORGET_BIAS = 1
EXPECTED = "Haiku's params with 'lstm/linear', or 'lstm/linear', 'lstm_1/linear', ..., each with w and b"
_MODULE = re.compile(r"(.*?)(?:_(\d+))?/linear")


def from_haiku(
    params: Mapping[str, Any], prefix: str = "", *, strict: bool = False, dtype: DTypeLike | None = None
) -> Params:
    """Read the params of hk.LSTM, or of an hk.DeepRNN of them, as a parameter tree of this package.

    Haiku adds 1 to the forget gate when it runs. Here that 1 is added to the forget bias, and this sum rounds by up to
    half an ulp of the result. Everything else is lossless unless `dtype` is narrower.

    Args:
      params: a mapping of module names to `{"w": [D + H, 4H], "b": [4H]}`. The names are "lstm/linear",
        "lstm_1/linear" and so on, in any module, such as "net/~/lstm/linear". All must be LSTMs of one stack.
      prefix: take only the modules whose names begin with this.
      strict: refuse if adding Haiku's 1 to a forget bias rounds.
      dtype: the dtype to cast to. None keeps each array's own.

    Returns:
      A torch.nn.LSTM state dict as jax arrays, with layers in the order of the numbers of their modules. The bias, with
      1 added to its forget gate, becomes `bias_ih`, and `bias_hh` is zero.

    Raises:
      TypeError: an entry is not a floating-point array that JAX can read.
      ValueError: the params are another library's, or have other modules too; the layers do not fit one another; or
        `strict` is set and a forget bias rounds.

    Examples:
      >>> import numpy as np
      >>> from jax_lstm import convert
      >>> weights = {"lstm/linear": {"w": np.zeros((8, 20), np.float32), "b": np.zeros(20, np.float32)}}
      >>> params = convert.from_haiku(weights, strict=True)
      >>> params["weight_ih_l0"].shape
      (20, 3)
      >>> params["bias_ih_l0"][5:10].tolist()  # the forget gate
      [1.0, 1.0, 1.0, 1.0, 1.0]
    """
    if not isinstance(params, Mapping):
        refuse_tree("params", EXPECTED, params)
    taken = {name: module for name, module in params.items() if str(name).startswith(prefix)}
    matches = {name: _MODULE.fullmatch(str(name)) for name in taken}
    stems = {match[1] for match in matches.values() if match}
    if not taken or not all(matches.values()) or len(stems) != 1:
        refuse_tree("params", f"{EXPECTED}, and no other modules (prefix={prefix!r} chooses)", taken or params)
    in_order = sorted((int(match[2] or 0), name) for name, match in matches.items() if match)
    return join_layers([(_read_cell(name, params[name], strict, dtype),) for _, name in in_order])


def to_haiku(params: Mapping[str, Array], name: str = "lstm", *, strict: bool = False) -> dict[str, dict[str, Array]]:
    """Write an LSTM as Haiku's params; the inverse of `jax_lstm.convert.from_haiku`.

    The conversion is not lossless. Haiku has one bias, the sum of both, and its forget gate's bias is less by the 1
    that Haiku adds when it runs. Both sums round.

    Args:
      params: a torch.nn.LSTM state dict with biases, in one direction and without projection, or a
        torch.nn.LSTMCell's.
      name: the name of the first module: "lstm", or "net/~/lstm" within a module.
      strict: refuse a `bias_hh` that is not zero, for which Haiku has no place, and a forget bias from which 1 cannot
        be subtracted without rounding.

    Returns:
      A dict `{"lstm/linear": {"w": ..., "b": ...}, "lstm_1/linear": ...}` with `w` `[D + H, 4H]` and `b` `[4H]`. Arrays
      are NumPy's or jax's, like those of `params`.

    Raises:
      TypeError: `params` is not a flat dict of floating-point arrays.
      ValueError: the names or shapes are not those of an LSTM, it has a projection, two directions or no biases, or
        `strict` refuses it.

    Examples:
      >>> import jax
      >>> import jax_lstm
      >>> params = jax_lstm.init_lstm(jax.random.key(0), 3, 5)
      >>> weights = jax_lstm.convert.to_haiku(params, name="net/~/lstm")
      >>> weights["net/~/lstm/linear"]["w"].shape
      (8, 20)
    """
    cells = only_one_direction(split_layers(params, "Haiku"), "Haiku")
    return {f"{name}{f'_{n}' * (n > 0)}/linear": _write_cell(cell, strict) for n, cell in enumerate(cells)}


def _read_cell(name: str, module: AnyTree, strict: bool, dtype: DTypeLike | None) -> CellWeights:
    if not isinstance(module, Mapping) or set(module) != {"w", "b"}:
        refuse_tree(f"params[{name!r}]", "hk.LSTM's linear layer, w and b", module)
    w, b = (read_array(f"params[{name!r}][{leaf!r}]", module[leaf], dtype) for leaf in ("w", "b"))
    cell = read_joint(w, b, f"params[{name!r}]", ("w", "b"))
    return cell | {"bias_ih": add_to_forget(cell["bias_ih"], FORGET_BIAS, "Haiku", strict)}


def _write_cell(cell: CellWeights, strict: bool) -> dict[str, Array]:
    xp = namespace(*cell.values())
    bias = add_to_forget(required_bias(cell, "Haiku", strict), -FORGET_BIAS, "Haiku", strict)
    joint = gates.reorder(xp.concatenate([cell["weight_ih"], cell["weight_hh"]], axis=1), gates.TORCH, ORDER)
    return {"w": joint.T, "b": gates.reorder(bias, gates.TORCH, ORDER)}
