"""The equations of a traced function, including those of its loop bodies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax


def equations(
    function: Callable[..., Any], *arguments: Any, platform: str = "cpu"
) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Yield each equation of the traced function, with the names of the primitives that it is nested in.

    If an equation has a branch per platform, only the branch of ``platform`` counts.
    """

    def walk(jaxpr: Any, outer: tuple[str, ...]) -> Iterator[tuple[Any, tuple[str, ...]]]:
        for equation in jaxpr.eqns:
            yield equation, outer
            for value in jax.tree.leaves(_values(equation, platform)):
                inner = getattr(value, "jaxpr", value)  # closed or open
                if hasattr(inner, "eqns"):
                    yield from walk(inner, (*outer, equation.primitive.name))

    return walk(jax.make_jaxpr(function)(*arguments).jaxpr, ())


def _values(equation: Any, platform: str) -> list[Any]:
    """Return the parameters of an equation. A None among the platforms of branches means all other platforms."""
    params = dict(equation.params)
    if platforms := params.get("branches_platforms"):
        chosen = [n for n, names in enumerate(platforms) if names is None or platform in names]
        params["branches"] = params["branches"][chosen[0]]
    return list(params.values())


def products(function: Callable[..., Any], *arguments: Any, inside: str = "") -> list[Any]:
    """Return the products of a traced function; ``inside`` a primitive, such as "scan", if it is given."""
    return [
        equation
        for equation, outer in equations(function, *arguments)
        if equation.primitive.name == "dot_general" and (not inside or inside in outer)
    ]
