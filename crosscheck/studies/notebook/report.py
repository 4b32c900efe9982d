"""The examination of the notebook's class as a table, sentences and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from crosscheck.core.environment import describe_environment
from crosscheck.report.table import Table
from crosscheck.studies.notebook.examination import EQUATIONS, SMALL, Behaviour, Explanation, NotebookResult

GATE = {"f": "forget gate", "i": "input gate", "c_": "candidate", "o": "output gate"}


def sentences(result: NotebookResult) -> list[str]:
    """Return the results in sentences. The last one is the verdict."""
    lines = _class_lines("the published class", result.published)
    lines += _class_lines("the corrected class", result.corrected)
    for implementation, error in result.errors.items():
        word = "agrees" if error <= SMALL else "does not agree"
        figures = f"error {error:.1e}, limit {SMALL:.0e}"
        lines.append(f"the corrected class {word} with {implementation} on its weights: {figures}")
    if result.ok:
        return [*lines, "both departures of the published class found, and none in the corrected one"]
    return [*lines, "not as expected: both departures in the published class, and none in the corrected one"]


def _class_lines(name: str, behaviour: Behaviour) -> list[str]:
    lines = []
    for question, best in (
        ("the states h and c", behaviour.gates),
        ("the collected hidden states", behaviour.collected),
    ):
        if not best.decided:
            nearest = f"the nearest, {' '.join(best.found)}, errs by {best.error:.1e}"
            lines.append(f"{name}: no explanation fits {question}; {nearest}")
    if behaviour.gates.decided and not behaviour.gradients_agree:
        unused = ", ".join(behaviour.unused) or "none"
        lines.append(f"{name}: its gradients contradict its outputs; layers without a gradient: {unused}")
    departures = departures_in_words(behaviour)
    if departures:
        numbered = "; ".join(f"({n}) {words}" for n, words in enumerate(departures, 1))
        return [*lines, f"{name} departs from the equations: {numbered}"]
    return lines or [f"{name} follows the equations"]


def departures_in_words(behaviour: Behaviour) -> list[str]:
    """Return how a class departs from the equations. Only certain departures are listed."""
    words = []
    if behaviour.gates_depart:
        words.append(_gates_in_words(behaviour.gates.found, behaviour.unused))
    if behaviour.collected.departs:
        words.append("the collected hidden states are the cell states c_t, not h_t")
    return words


def _gates_in_words(layers: Sequence[str], unused: Sequence[str]) -> str:
    if len(set(layers)) == 1:
        words = f"all four gates use the {GATE[layers[0]]}'s weights (layer {layers[0]})"
    else:
        pairs = zip(EQUATIONS, layers, strict=True)
        words = ", ".join(f"the {GATE[gate]} uses layer {layer}, not {gate}" for gate, layer in pairs if layer != gate)
    return words + (f"; every gradient by {', '.join(unused)} is exactly zero" if unused else "")


def explanation_table(result: NotebookResult) -> Table:
    """Return the best, the next best and the equations' explanation per class and question, with their errors."""
    rows = []
    for name, behaviour in (("as published", result.published), ("corrected", result.corrected)):
        rows.append((name, "layers that feed gates f i c_ o", *_cells(behaviour.gates)))
        rows.append((name, "collected hidden states", *_cells(behaviour.collected)))
    columns = ("class", "question", "found", "error", "next best", "its error", "equations", "their error")
    return Table("", columns, tuple(rows), keys=2)


def _cells(best: Explanation) -> tuple[str, ...]:
    found, *others = (v if isinstance(v, str) else f"{v:.1e}" for v in _explanation_to_json(best).values())
    return (found if best.decided else f"none (nearest {found})", *others)


def to_json(result: NotebookResult) -> dict[str, Any]:
    """Return what both classes do, and the agreements of the corrected one."""
    return {
        "ok": result.ok,
        "published": _behaviour_to_json(result.published),
        "corrected": _behaviour_to_json(result.corrected),
        "agreements": [{"implementation": n, "error": e, "ok": e <= SMALL} for n, e in result.errors.items()],
        "environment": describe_environment(),
    }


def _behaviour_to_json(behaviour: Behaviour) -> dict[str, Any]:
    return {
        "gates": _explanation_to_json(behaviour.gates),
        "collected": _explanation_to_json(behaviour.collected),
        "unused": list(behaviour.unused),
        "explained": behaviour.explained,
        "departures": departures_in_words(behaviour),
    }


def _explanation_to_json(best: Explanation) -> dict[str, Any]:
    """Return the three answers, each followed by its error."""
    return {name: value if isinstance(value, float) else " ".join(value) for name, value in vars(best).items()}
