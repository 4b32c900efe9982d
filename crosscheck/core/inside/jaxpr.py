"""Evaluates a jaxpr equation by equation, under a rule that may change what an equation computes.

Loops and branches are built again around their own equations; calls are inlined. Derivatives must have been taken
before: a custom derivative is one of the calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import source_info_util
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

_JUDGE = str(Path(__file__).parents[1])
_CALLS = ("jaxpr", "call_jaxpr", "fun_jaxpr")
_INLINED = (
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "checkpoint",
    "remat",
    "remat2",
    "custom_jvp_call",
    "custom_vjp_call",
    "custom_vjp_call_jaxpr",
)


class Rule(Protocol):
    """What an evaluation does in place of JAX."""

    def constant(self, value: Any) -> Any:
        """Return the value of a literal or of a closed-over array."""

    def equation(self, eqn: JaxprEqn, values: Sequence[Any]) -> Sequence[Any]:
        """Return the results of an equation that is neither a loop, a branch nor a call."""

    def call(self, name: str, results: list[Any]) -> list[Any]:
        """Return the results of a call of the function of that name, given the results of its equations."""


def evaluate(closed: ClosedJaxpr, arguments: Sequence[Any], rule: Rule) -> list[Any]:
    """Return the results of a jaxpr for arguments, computed under ``rule``."""
    return _evaluate(closed.jaxpr, [rule.constant(c) for c in closed.consts], arguments, rule)


def bind(eqn: JaxprEqn, values: Sequence[Any], **params: Any) -> list[Any]:
    """Return the results of an equation for other values, and other parameters if some are given."""
    bound = eqn.primitive.get_bind_params({**eqn.params, **params})
    functions, bound = bound if isinstance(bound, tuple) else ((), bound)  # older releases of JAX give both
    with source_info_util.user_context(eqn.source_info.traceback), eqn.ctx.manager:
        results = eqn.primitive.bind(*functions, *values, **bound)
    return list(results) if eqn.primitive.multiple_results else [results]


def equations(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    """Yield the equations of a jaxpr and of all jaxprs inside it, in the order of computation."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in _inner(eqn):
            yield from equations(inner)


def with_dependence(closed: ClosedJaxpr) -> Iterator[tuple[JaxprEqn, bool]]:
    """Yield every equation, as `equations` does, and whether it depends on a floating-point argument of the program.

    Everything inside a loop or a branch depends on such an argument if any of its operands does.
    """
    arguments = {v for v in closed.jaxpr.invars if jnp.issubdtype(getattr(v.aval, "dtype", bool), jnp.inexact)}
    yield from _with_dependence(closed.jaxpr, arguments)


def _with_dependence(jaxpr: Jaxpr, dependent: set[Any]) -> Iterator[tuple[JaxprEqn, bool]]:
    for eqn in jaxpr.eqns:
        operands = [not isinstance(atom, Literal) and atom in dependent for atom in eqn.invars]
        depends = any(operands)
        yield eqn, depends
        for inner in _inner(eqn):
            if eqn.primitive.name in _INLINED and len(inner.invars) == len(operands):
                yield from _with_dependence(inner, {v for v, so in zip(inner.invars, operands, strict=True) if so})
            else:
                yield from _with_dependence(inner, set(inner.invars) if depends else set())
        if depends:
            dependent.update(eqn.outvars)


def closed_over(closed: ClosedJaxpr) -> Iterator[Any]:
    """Yield the variables of the arrays that a program closes over, and that its calls close over."""
    yield from closed.jaxpr.constvars
    for eqn in equations(closed.jaxpr):
        for inner in _inner(eqn):
            yield from inner.constvars


def constants(closed: ClosedJaxpr) -> Iterator[Any]:
    """Yield the arrays that a program closes over and its literals, also those of all jaxprs inside it.

    Keys of random numbers are left out.
    """
    yield from filter(is_array, closed.consts)
    for eqn in equations(closed.jaxpr):
        yield from (atom.val for atom in eqn.invars if isinstance(atom, Literal))
        for value in eqn.params.values():
            for item in value if isinstance(value, tuple | list) else (value,):
                yield from filter(is_array, item.consts) if isinstance(item, ClosedJaxpr) else ()


def is_array(value: Any) -> bool:
    """Return whether a constant holds numbers, and is no key of random numbers."""
    return not jnp.issubdtype(getattr(value, "dtype", np.float64), jax.dtypes.extended)


def as_array(value: Any) -> Any:
    """Return a constant as NumPy, and a key of random numbers as it is."""
    return np.array(value) if is_array(value) else value


def location(eqn: JaxprEqn) -> str:
    """Return where the user's code, or a library that is not JAX, asked for an equation: "model.py:12 (forward)"."""
    where = source_info_util.summarize(eqn.source_info)
    path, _, rest = where.partition(":")
    line = rest.partition(" ")[0].partition(":")[0]
    names = rest.partition("(")[2].rstrip(")").split(".")
    function = next((name for name in reversed(names) if not name.startswith("<")), names[-1])
    return f"{PurePath(path).name}:{line} ({function})" if function else where or "an unknown place"


def is_of_the_judge(eqn: JaxprEqn) -> bool:
    """Return whether the judge itself asked for an equation, such as to cast a cotangent."""
    return source_info_util.summarize(eqn.source_info).startswith(_JUDGE)


def is_inside_jax(eqn: JaxprEqn, *folders: str) -> bool:
    """Return whether a function of JAX in one of ``folders`` of its source, such as "nn", made an equation itself."""
    traceback = eqn.source_info.traceback
    marks = [f"/jax/_src/{folder}/" for folder in folders]
    for frame in getattr(traceback, "frames", ()):
        if "/jax/_src/" not in frame.file_name:
            return False
        if any(mark in frame.file_name for mark in marks):
            return True
    return False


def _inner(eqn: JaxprEqn) -> Iterator[Jaxpr]:
    for value in eqn.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, Jaxpr):
                yield item


def _evaluate(jaxpr: Jaxpr, consts: Sequence[Any], arguments: Sequence[Any], rule: Rule) -> list[Any]:
    values: dict[Any, Any] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *arguments), strict=True))

    def read(atom: Any) -> Any:
        return rule.constant(atom.val) if isinstance(atom, Literal) else values[atom]

    for eqn in jaxpr.eqns:
        results = _results(eqn, [read(atom) for atom in eqn.invars], rule)
        values.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _results(eqn: JaxprEqn, values: list[Any], rule: Rule) -> Sequence[Any]:
    name = eqn.primitive.name
    if name in _STRUCTURED:
        return _STRUCTURED[name](eqn, values, rule)
    if name in _INLINED:
        called = next(eqn.params[key] for key in _CALLS if key in eqn.params)
        return rule.call(_name(called), _closed(called, values, rule))
    return rule.equation(eqn, values)


def _name(called: Any) -> str:
    """Return the name of the function from which a jaxpr was traced, if JAX knows it."""
    jaxpr = called.jaxpr if isinstance(called, ClosedJaxpr) else called
    return str(getattr(jaxpr.debug_info, "func_src_info", None) or "").partition(" ")[0]


def _closed(jaxpr: Any, values: Sequence[Any], rule: Rule) -> list[Any]:
    """Evaluate a jaxpr with or without constants of its own."""
    return evaluate(jaxpr, values, rule) if isinstance(jaxpr, ClosedJaxpr) else _evaluate(jaxpr, (), values, rule)


def _scan(eqn: JaxprEqn, values: list[Any], rule: Rule) -> list[Any]:
    p = eqn.params
    consts, init, xs = _scan_arguments(p, values)
    count = len(init)

    def body(carry: list[Any], x: list[Any]) -> tuple[list[Any], list[Any]]:
        results = _closed(p["jaxpr"], [*consts, *carry, *x], rule)
        return results[:count], results[count:]

    carry, ys = jax.lax.scan(body, init, xs, p["length"], p["reverse"], p["unroll"])
    return [*carry, *ys]


def _scan_arguments(params: Any, values: list[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """Return the constants, the carry and the scanned arrays of a scan, as JAX up to 0.11 or from 0.12 keeps them."""
    if "ft_in" in params:
        consts, init, xs = params["ft_in"].update(values).unpack()
        return list(consts), list(init), list(xs)
    first = params["num_consts"]
    second = first + params["num_carry"]
    return values[:first], values[first:second], values[second:]


def _while(eqn: JaxprEqn, values: list[Any], rule: Rule) -> list[Any]:
    p = eqn.params
    of_cond, rest = values[: p["cond_nconsts"]], values[p["cond_nconsts"] :]
    of_body, init = rest[: p["body_nconsts"]], rest[p["body_nconsts"] :]
    return list(
        jax.lax.while_loop(
            lambda carry: _closed(p["cond_jaxpr"], [*of_cond, *carry], rule)[0],
            lambda carry: _closed(p["body_jaxpr"], [*of_body, *carry], rule),
            init,
        )
    )


def _cond(eqn: JaxprEqn, values: list[Any], rule: Rule) -> list[Any]:
    index, *operands = values
    branches = [lambda *operands, branch=branch: _closed(branch, operands, rule) for branch in eqn.params["branches"]]
    return list(jax.lax.switch(index, branches, *operands))


_STRUCTURED: dict[str, Callable[[JaxprEqn, list[Any], Rule], list[Any]]] = {
    "scan": _scan,
    "while": _while,
    "cond": _cond,
}
