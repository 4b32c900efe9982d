"""LSTM cells in random layouts, written gate by gate in NumPy. Discovery must find the layouts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

GATES = "ifgo"
State = tuple[np.ndarray, np.ndarray]  # (h, c) or (c, h)


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


class Library:
    """An imaginary library with a random layout, given by ``description``."""

    def __init__(
        self,
        seed: int,
        gate: Callable[[np.ndarray], np.ndarray] = sigmoid,
        forget: int | None = None,
        equal_sizes: bool = False,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.gate = gate
        self.size, self.hidden = (int(n) for n in rng.integers(2, 7, 2))
        if equal_sizes:
            self.size = self.hidden
        self.order = "".join(rng.permutation(list(GATES)))
        self.weights = str(rng.choice(["fused", "joint xh", "joint hx", "per gate", "per gate, joint"]))
        self.in_out = bool(rng.integers(2))
        self.biases = str(rng.choice(["none", "one", "two", "both", "rows", "per gate"]))
        self.forget = int(rng.integers(-1, 2)) if forget is None else forget
        self.takes, self.returns = (str(order) for order in rng.choice(["hc", "ch"], 2))
        size, hidden = self.size, self.hidden
        self.cell = {
            "weight_ih": rng.normal(size=(4 * hidden, size)),
            "weight_hh": rng.normal(size=(4 * hidden, hidden)),
        }
        if self.biases != "none":
            self.cell["bias_ih"] = rng.normal(size=4 * hidden)
            self.cell["bias_hh"] = rng.normal(size=4 * hidden) * (self.biases in ("two", "both", "rows"))

    def stored(self) -> dict[str, np.ndarray]:
        """Return the library's parameters, which hold the blocks of ``cell``."""
        blocks = {name: dict(zip(GATES, np.split(a, 4), strict=True)) for name, a in self.cell.items()}
        oriented = (lambda a: a.T) if self.in_out else (lambda a: a)
        params = {}
        x, h = blocks["weight_ih"], blocks["weight_hh"]
        if "joint" in self.weights:
            pairs = {g: (h[g], x[g]) if self.weights == "joint hx" else (x[g], h[g]) for g in GATES}
            joint = {g: np.concatenate(pair, axis=1) for g, pair in pairs.items()}
            kinds = {"joint": joint}
        else:
            kinds = {"input": x, "recurrent": h}
        for kind, by_gate in kinds.items():
            if "per gate" in self.weights:
                params |= {f"{kind} {g}": oriented(by_gate[g]) for g in GATES}
            else:
                params[kind] = oriented(np.concatenate([by_gate[g] for g in self.order]))
        if self.biases == "per gate":
            return params | {f"bias {g}": blocks["bias_ih"][g] for g in GATES}
        fused = [np.concatenate([blocks[n][g] for g in self.order]) for n in ("bias_ih", "bias_hh") if n in blocks]
        biases = {
            "none": dict,
            "one": lambda: {"bias": fused[0]},
            "two": lambda: {"bias 0": fused[0], "bias 1": fused[1]},
            "both": lambda: {"bias": np.concatenate(fused)},
            "rows": lambda: {"bias": np.stack(fused)},
        }
        return params | biases[self.biases]()

    def __call__(self, params: dict[str, np.ndarray], x: np.ndarray, state: State) -> State:
        """Return the next state, computed gate by gate from the stored arrays."""
        h, c = state if self.takes == "hc" else state[::-1]
        sums = {g: self._product(params, n, g, x, h) + self._bias(params, n, g) for n, g in enumerate(self.order)}
        c = self.gate(sums["f"] + self.forget) * c + self.gate(sums["i"]) * np.tanh(sums["g"])
        h = self.gate(sums["o"]) * np.tanh(c)
        return (h, c) if self.returns == "hc" else (c, h)

    def _product(self, params: dict[str, np.ndarray], n: int, g: str, x: np.ndarray, h: np.ndarray) -> np.ndarray:
        rows = slice(n * self.hidden, (n + 1) * self.hidden)

        def block(kind: str) -> np.ndarray:
            if "per gate" in self.weights:
                whole = params[f"{kind} {g}"]
                return whole if self.in_out else whole.T
            return params[kind][:, rows] if self.in_out else params[kind][rows].T

        if "joint" in self.weights:
            return np.concatenate((h, x) if self.weights == "joint hx" else (x, h), axis=1) @ block("joint")
        return x @ block("input") + h @ block("recurrent")

    def _bias(self, params: dict[str, np.ndarray], n: int, g: str) -> np.ndarray | float:
        if self.biases == "none":
            return 0.0
        if self.biases == "per gate":
            return params[f"bias {g}"]
        whole = sum(params[k] for k in params if k.startswith("bias")).reshape(-1, 4, self.hidden).sum(0)
        return whole[n]

    @property
    def description(self) -> str:
        return (
            f"{self.weights}, {self.order}, biases {self.biases}, forget {self.forget:+d}, {self.takes} {self.returns}"
        )
