"""How a mistake changes a drawn problem: other options of its port, another port, other arguments, other inputs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial, reduce
from typing import Any, TypeAlias

import torch

from crosscheck.models.pair import Drawn

Change: TypeAlias = Callable[[Drawn], Drawn]


def options(**wrong: Any) -> Change:
    """Return a change to other keyword arguments of the port."""
    return lambda drawn: replace(drawn, port=partial(drawn.port, **wrong))


def other_port(port: Callable[..., Any]) -> Change:
    """Return a change to another port, which takes the keyword arguments of the right one."""
    return lambda drawn: replace(drawn, port=partial(port, **getattr(drawn.port, "keywords", {})))


def around(wrong: Callable[..., Any]) -> Change:
    """Return a change to the port ``wrong(port, params, *inputs)``."""
    return lambda drawn: replace(drawn, port=lambda params, *inputs: wrong(drawn.port, params, *inputs))


def other_params(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Change:
    """Return a change to a port that uses ``change(params)``: its names replace those of the params."""
    return around(lambda port, params, *inputs: port({**params, **change(params)}, *inputs))


def other_result(change: Callable[[Any], Any]) -> Change:
    """Return a change to a port whose result is ``change(result)``."""
    return around(lambda port, params, *inputs: change(port(params, *inputs)))


def other_inputs(change: Callable[..., tuple[Any, ...]]) -> Change:
    """Return a change of the problem's inputs to ``change(*inputs)``. Both sides receive them."""
    return lambda drawn: replace(drawn, inputs=change(*drawn.inputs))


def other_module(change: Callable[[Any], Any]) -> Change:
    """Return a change of the problem's module, which is copied first. Its parameters reach both sides."""

    def changed(drawn: Drawn) -> Drawn:
        module = copy.deepcopy(drawn.module)
        with torch.no_grad():
            change(module)
        return replace(drawn, module=module)

    return changed


def both(*changes: Change) -> Change:
    """Return one change after another."""
    return lambda drawn: reduce(lambda problem, change: change(problem), changes, drawn)


def with_input(number: int, value: Callable[[Any], Any], change: Change) -> Change:
    """Return a change that also replaces one input, such as by a mask of ones.

    Args:
      number: the number of the input.
      value: takes the input that was drawn.
      change: the change of the port.
    """

    def changed(drawn: Drawn) -> Drawn:
        inputs = list(drawn.inputs)
        inputs[number] = value(inputs[number])
        return change(replace(drawn, inputs=tuple(inputs)))

    return changed
