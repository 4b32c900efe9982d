"""Rules in use elsewhere for models of any kind, as data.

Two of them compare the errors of both programs, by a run of the torch module in float64. The others come from
`tolerance_rules` and see only float32. A rule is applied to every output, and to every gradient if its users compare
gradients. Integers and bools must be equal under every rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from crosscheck.core.problem import Gradient, Problem, Quantity, Results
from crosscheck.suite.tolerance_rules import RULES, Close

Accepts: TypeAlias = Callable[[np.ndarray, np.ndarray, np.ndarray], bool]
DYNAMO = 1e-4  # the default tolerance of torch._dynamo.utils.same


@dataclass(frozen=True)
class ModelRule:
    """One rule.

    Attributes:
      name: its name.
      description: who uses it, and what it compares.
      accepts: returns whether it accepts ``(port, module, truth)`` of one quantity: both in float32, and float64.
      gradients: whether it compares gradients too.
    """

    name: str
    description: str
    accepts: Accepts
    gradients: bool

    def passes(self, port: Results, module: Results, truth: Results, problem: Problem) -> bool:
        """Return whether the rule accepts a port."""
        names: list[Quantity] = [*problem.output_names, *(Gradient(name) for name in problem.wrt if self.gradients)]
        return all(name in port and self._accepts(port[name], module[name], truth[name]) for name in names)

    def _accepts(self, port: np.ndarray, module: np.ndarray, truth: np.ndarray) -> bool:
        if port.shape != module.shape:
            return False
        if port.dtype.kind in "biu" and module.dtype.kind in "biu":
            return bool(np.array_equal(port, module))
        return self.accepts(port, module, truth)


def passed_rules(port: Results, module: Results, truth: Results, problem: Problem) -> frozenset[str]:
    """Return the names of the rules that accept a port.

    Args:
      port: float32 results of the port.
      module: float32 results of the torch module.
      truth: float64 results of the torch module.
      problem: the problem.
    """
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        return frozenset(name for name, rule in MODEL_RULES.items() if rule.passes(port, module, truth, problem))


def _dynamo_same(port: np.ndarray, module: np.ndarray, truth: np.ndarray) -> bool:
    """Return whether torch.allclose accepts, or the error of the port is not much larger than the module's.

    The case of a reference with NaN that the port and float64 lack is the last one in `same`.
    """
    if port.dtype != module.dtype:
        return False
    if np.allclose(port, module, rtol=DYNAMO, atol=DYNAMO):
        return True
    if np.isnan(module).any() and not np.isnan(truth).any() and not np.isnan(port).any():
        return bool(np.allclose(port, truth.astype(port.dtype), rtol=4e-2, atol=4e-2))
    multiplier = 3.0 if truth.size < 1000 else 2.0
    return bool(_rmse(port, truth) <= multiplier * _rmse(module, truth) + DYNAMO / 10)


def _rmse(a: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(truth - a.astype(np.float64)))))


def _twice_the_error(port: np.ndarray, module: np.ndarray, truth: np.ndarray) -> bool:
    return bool(_largest(port, truth) <= 2 * _largest(module, truth) + 1e-5)


def _largest(a: np.ndarray, truth: np.ndarray) -> float:
    return float(np.max(np.abs(a.astype(np.float64) - truth), initial=0.0))


def _in_float32(close: Close) -> Accepts:
    return lambda port, module, truth: close(port, module)


def _known(name: str) -> ModelRule:
    rule = RULES[name]
    return ModelRule(name, rule.description, _in_float32(rule.close), rule.gradients)


MODEL_RULES: dict[str, ModelRule] = {
    rule.name: rule
    for rule in (
        _known("hugging-face"),
        ModelRule(
            "torch.compile",
            "torch.compile's accuracy check, torch/_dynamo/utils.py `same` with fp64_ref: outputs and gradients within "
            "1e-4 and 1e-4 of the reference; else the root mean square error against float64 is at most twice the "
            "reference's own, three times below 1,000 numbers, and 1e-5",
            _dynamo_same,
            gradients=True,
        ),
        ModelRule(
            "flash-attention",
            "FlashAttention's tests: the largest error of outputs and gradients is at most twice that of torch in the "
            "same dtype, and 1e-5 as in its tests with a causal mask",
            _twice_the_error,
            gradients=True,
        ),
        _known("torch-assert_close"),
        _known("numpy-allclose"),
    )
}
