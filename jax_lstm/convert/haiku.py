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

    Args:
      params: module names to {"w", "b"}, all of LSTMs of one stack: "lstm/linear", "lstm_1/linear", ... in any module,
        such as "net/~/lstm/linear".
      prefix: take only the modules whose names begin with this.
      strict: refuse if adding Haiku's 1 to a forget bias rounds.
      dtype: dtype to cast to; None keeps each array's own.

    Returns:
      A torch.nn.LSTM state dict as jax arrays, layers by the numbers of their modules. The bias, with Haiku's 1 added
      to its forget gate, becomes bias_ih, and bias_hh is zero. Not lossless: that sum rounds, by up to half an ulp of
      the result. Everything else is lossless.

    Raises:
      ValueError, TypeError: the params are another library's, or other modules' as well; ``strict`` and a forget bias
        would round; or the layers do not fit one another.

    Example:
      >>> params = convert.from_haiku(weights, prefix="net/~/lstm")
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
    """Write an LSTM as Haiku's params; the inverse of :func:`from_haiku`.

    Args:
      params: a torch.nn.LSTM state dict with biases, in one direction, without projection; or a torch.nn.LSTMCell's.
      name: name of the first module: "lstm", or "net/~/lstm" within a module.
      strict: refuse a bias_hh that is not zero, which Haiku has no place for, and a forget bias from which 1 cannot be
        subtracted without rounding.

    Returns:
      {"lstm/linear": {"w", "b"}, "lstm_1/linear": ...}. Arrays are of the kind that came. Not lossless: Haiku has one
      bias, the sum of both, and its forget gate's is less by the 1 that Haiku adds. Both sums round.

    Raises:
      ValueError, TypeError: ``params`` have a projection, two directions or no biases; or ``strict``, as above.

    Example:
      >>> y, state = net.apply(convert.to_haiku(params), x, hk.LSTMState(h, c))
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
