"""The result of a discovery: where the weights of a cell are, what they mean, and how certain this is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import jax
import numpy as np

from crosscheck.discovery.conventions import BiasRule, Convention
from crosscheck.discovery.layouts import Layout, Shape, Stored

# A right candidate errs by rounding: 1e-16 in float64, 1e-7 in float32, about 1e-6 with an approximate activation. A
# wrong one errs by 1e-2 and more.
ROUNDING = 1e-5
MARGIN = 1e3
StateOrder: TypeAlias = Literal["hc", "ch"]


@dataclass(frozen=True)
class Candidate:
    """One complete explanation of a cell.

    Attributes:
      layout: where the weights are.
      convention: what they mean.
      takes: the order in which the cell takes the states.
      returns: the order in which it returns them.
    """

    layout: Layout
    convention: Convention
    takes: StateOrder = "hc"
    returns: StateOrder = "hc"

    def facts(self, names: tuple[str, ...]) -> dict[str, str]:
        """Return the explanation in words, by topic. ``names`` are the names of the leaves."""
        layout = self.layout
        facts = {"gates": _gates(self)}
        if layout.joint:
            facts["weights"] = f"joint, {self._where(layout.input, names)}"
        else:
            facts["input weights"] = self._where(layout.input, names)
            facts["recurrent weights"] = self._where(layout.recurrent, names)
        facts["biases"] = "; ".join(self._where(bias, names) for bias in layout.biases) or "none stored"
        facts["state"] = f"taken as ({', '.join(self.takes)}), returned as ({', '.join(self.returns)})"
        return facts

    def _where(self, stored: Stored, names: tuple[str, ...]) -> str:
        if stored.fused:
            return f"{names[stored.leaves[0]]} {stored.form.words}"
        gates = zip(self.convention.gates, stored.leaves, strict=True)
        return ", ".join(f"{gate} = {names[n]}" for gate, n in gates) + f", each {stored.form.words}"

    def differences(self, other: Candidate, names: tuple[str, ...]) -> str:
        """Return in words what differs from the ``other`` candidate."""
        mine, theirs = self.facts(names), other.facts(names)
        return "; ".join(f"{topic}: {words}" for topic, words in mine.items() if theirs.get(topic) != words)


@dataclass(frozen=True)
class RunnerUp:
    """The best candidate that computes something else: how it differs, and its error."""

    description: str
    error: float


@dataclass(frozen=True)
class WeightMap:
    """How a cell keeps its weights, as `crosscheck.discover` finds it. `str(weight_map)` gives it in words.

    Attributes:
      candidate: the best explanation. It is certain only if `decided` is true.
      error: the larger relative 2-norm error of h and c in one step.
      runner_up: the best of the candidates that compute something else.
      candidates: how many candidates were tried.
      names: the names of the parameters.
      shapes: the shapes of the parameters.
      structure: the pytree structure of the parameters.

    Examples:
      >>> import torch
      >>> import crosscheck
      >>> cell = torch.nn.LSTMCell(3, 5)
      >>> step = lambda params, x, state: torch.func.functional_call(cell, params, (x, state))
      >>> weight_map = crosscheck.discover(step, dict(cell.named_parameters()))
      >>> weight_map.decided, str(weight_map.convention)
      (True, "gate order i f g o (torch's)")
    """

    candidate: Candidate
    error: float
    runner_up: RunnerUp
    candidates: int
    names: tuple[str, ...]
    shapes: tuple[Shape, ...] = field(repr=False)
    structure: Any = field(repr=False)

    @property
    def decided(self) -> bool:
        """Whether the error is rounding, and every candidate that computes something else errs 1000 times as much."""
        return bool(self.error <= ROUNDING and self.runner_up.error >= MARGIN * max(self.error, np.finfo(float).eps))

    @property
    def convention(self) -> Convention:
        """Gate order, transposition and bias rule: what the blocks mean."""
        return self.candidate.convention

    @property
    def layout(self) -> Layout:
        """Where the weights are."""
        return self.candidate.layout

    @property
    def state_order(self) -> StateOrder:
        """The order in which the cell takes its state."""
        return self.candidate.takes

    def to_torch(self, params: Any) -> dict[str, np.ndarray]:
        """Return weights with which torch.nn.LSTMCell computes what this cell does.

        Args:
          params: the parameters of the library.

        Returns:
          A dict of `weight_ih` `[4H, D]`, `weight_hh` `[4H, H]`, `bias_ih` and `bias_hh` `[4H]`, as NumPy arrays in the
          dtype of the parameters. A single bias becomes `bias_ih`, beside a `bias_hh` of zeros. Without biases both are
          left out.

        Raises:
          ValueError: the map is not decided, or `params` have another structure or other shapes.

        Examples:
          >>> import jax
          >>> import jax.numpy as jnp
          >>> from flax import linen as nn
          >>> import crosscheck
          >>> cell = nn.OptimizedLSTMCell(5)
          >>> params = cell.init(jax.random.key(0), (jnp.zeros((1, 5)), jnp.zeros((1, 5))), jnp.zeros((1, 3)))
          >>> weight_map = crosscheck.discover(lambda params, x, state: cell.apply(params, state, x)[0], params)
          >>> {name: array.shape for name, array in weight_map.to_torch(params).items()}
          {'weight_ih': (20, 3), 'weight_hh': (20, 5), 'bias_ih': (20,), 'bias_hh': (20,)}
        """
        self._require_decided()
        leaves, structure = jax.tree.flatten(params)
        if structure != self.structure:
            raise ValueError(f"params must have the structure that was discovered, {self.structure}; got {structure}.")
        arrays = [_array(leaf) for leaf in leaves]
        for name, array, shape in zip(self.names, arrays, self.shapes, strict=True):
            if array.shape != shape:
                raise ValueError(f"params[{name!r}] must have shape {shape}; got {array.shape}.")
        return read(self.candidate, arrays)

    def from_torch(self, cell: Mapping[str, Any]) -> Any:
        """Return torch's cell weights in the structure of the library, as NumPy arrays.

        If the library keeps one bias, it is the sum of both, which rounds.

        Args:
          cell: `weight_ih` `[4H, D]`, `weight_hh` `[4H, H]`, and `bias_ih` and `bias_hh` `[4H]` if there are biases, as
            arrays or torch tensors.

        Returns:
          The parameters of the library, in the dtype of `weight_ih`.

        Raises:
          ValueError: the map is not decided, shapes do not fit, or the library has no place for the biases.

        Examples:
          >>> import jax
          >>> import jax.numpy as jnp
          >>> from flax import linen as nn
          >>> import crosscheck
          >>> cell = nn.OptimizedLSTMCell(5)
          >>> params = cell.init(jax.random.key(0), (jnp.zeros((1, 5)), jnp.zeros((1, 5))), jnp.zeros((1, 3)))
          >>> weight_map = crosscheck.discover(lambda params, x, state: cell.apply(params, state, x)[0], params)
          >>> written = weight_map.from_torch(weight_map.to_torch(params))
          >>> bool((written["params"]["ii"]["kernel"] == params["params"]["ii"]["kernel"]).all())
          True
        """
        self._require_decided()
        given = {name: _array(value) for name, value in cell.items() if value is not None}
        self._check(given)
        leaves = [np.zeros(shape, given["weight_ih"].dtype) for shape in self.shapes]
        self.layout.put(leaves, self._biases_as_kept(given))
        return jax.tree.unflatten(self.structure, leaves)

    def _check(self, given: dict[str, np.ndarray]) -> None:
        wide, size = 4 * self.layout.hidden_size, self.layout.input_size
        wanted: dict[str, Shape] = {"weight_ih": (wide, size), "weight_hh": (wide, wide // 4)}
        for name in sorted(given.keys() | wanted.keys()):
            expected = wanted.get(name, (wide,) if name in ("bias_ih", "bias_hh") else None)
            got = given[name].shape if name in given else "nothing"
            if got != expected:
                wanted_text = f"of shape {expected}" if expected else "absent"
                raise ValueError(f"cell[{name!r}] must be {wanted_text}; got {got}.")

    def _biases_as_kept(self, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the cell in its convention, with as many biases as the library has."""
        zeros = np.zeros_like(given["weight_hh"][:, 0])
        ih, hh = given.get("bias_ih", zeros), given.get("bias_hh", zeros)
        cell = {name: given[name] for name in ("weight_ih", "weight_hh")}
        if len(self.layout.biases) == 2:
            return self.convention.write(cell | {"bias_ih": ih, "bias_hh": hh})
        stored = self.convention.write(cell | {"bias_ih": ih + hh})
        if not self.layout.biases and (stored.pop("bias_ih") != 0).any():
            raise ValueError(
                "the cell's biases must equal what this library adds at run time, since it stores none; got others."
            )
        return stored

    def _require_decided(self) -> None:
        if not self.decided:
            raise ValueError(f"this weight map is not decided and converts nothing. {self}")

    def __str__(self) -> str:
        facts = self.candidate.facts(self.names)
        if self.decided:
            lines = [f"This cell is an LSTM cell: {facts.pop('gates')}."]
        elif self.error <= ROUNDING:
            lines = [f"Not decided: two explanations of this cell are too similar. One: {facts.pop('gates')}."]
        else:
            lines = [
                f"Not decided: none of {self.candidates:,} candidates explains this cell. The nearest one has error "
                f"{self.error:.1e}: {facts.pop('gates')}."
            ]
        lines += [f"  {topic}: {words}" for topic, words in facts.items()]
        lines.append(
            f"Error {self.error:.1e}; the best of {self.candidates:,} candidates that computes something else errs by "
            f"{self.runner_up.error:.1e} ({self.runner_up.description})."
        )
        return "\n".join(lines)


def read(candidate: Candidate, leaves: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Return torch's cell weights, with both biases or none, from the leaves of a library."""
    cell = candidate.convention.read(candidate.layout.take(leaves))
    if "bias_ih" in cell and "bias_hh" not in cell:
        cell["bias_hh"] = np.zeros_like(cell["bias_ih"])
    return cell


def _gates(candidate: Candidate) -> str:
    groups, convention = candidate.layout.groups, candidate.convention
    words = str(convention)
    if not any(group.fused for group in groups):
        words = words.replace(str(Convention()), "one array per gate")
    if len(groups) == 3 and convention.biases is BiasRule.WITHOUT_IH:
        words = words.replace(BiasRule.WITHOUT_IH.phrase, "its bias ignored")
    return words


def _array(value: Any) -> np.ndarray:
    array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    if array.dtype.kind not in "fV":  # V is bfloat16
        raise ValueError(f"weights must be floating-point arrays; got dtype {array.dtype}.")
    return array
