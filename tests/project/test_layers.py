"""Every import follows the table of layers in CONTRIBUTING.md, and files keep the layout."""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

from tests import ROOT

PACKAGES = ("jax_lstm", "torch_ref", "crosscheck", "benchmarks")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
ROW = re.compile(r"^\| `([\w/.*]+)` \| (.+?) \|$", re.MULTILINE)
MAP, LAYERS = "## Where things are", "## Who may import whom"  # sections of CONTRIBUTING.md


@lru_cache
def table() -> dict[str, set[str]]:
    """Return the layers of CONTRIBUTING.md, lowest first, each with the layers that it may import besides itself."""
    return {layer: set(re.findall(r"`([\w/.*]+)`", allowed)) for layer, allowed in rows_below(LAYERS)}


def rows_below(heading: str) -> list[tuple[str, str]]:
    """Return the rows of the tables in a section whose first cell is a path."""
    section = (ROOT / "CONTRIBUTING.md").read_text().split(f"{heading}\n")[1].split("\n## ")[0]
    return ROW.findall(section)


def layer_of(path: Path) -> str:
    """Return the layer of a file: the longest row that contains it. `/*` means one folder or file."""
    name = path.relative_to(ROOT).as_posix()
    fits = [
        row
        for row in table()
        if (row.endswith("/*") and name.startswith(row[:-1])) or name == row or name.startswith(f"{row}/")
    ]
    return max(fits, key=len, default="")


def part_of(path: Path) -> str:
    """Return the folder or file below a row with `/*`. It must not import its neighbours in the row."""
    row = layer_of(path)
    below = path.relative_to(ROOT / row.removesuffix("/*")).parts
    return below[0] if row.endswith("/*") else ""


def module_of(path: Path) -> str:
    name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    return name.removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield the modules of this project that a tree imports, also in functions and for type checkers."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if name in MODULES:
                    yield name
                elif node.module in MODULES:
                    yield node.module
        else:
            yield from imported(node)


def test_the_map_has_every_layer():
    assert [folder for folder, _ in rows_below(MAP)] == list(table())


def test_the_table_runs_one_way():
    """A row names only rows above it, so a cycle is impossible."""
    rows = list(table())
    assert len(rows) > 12
    for n, (layer, allowed) in enumerate(table().items()):
        assert allowed <= set(rows[:n]), layer


@pytest.mark.parametrize("layer", table())
def test_a_layer_imports_what_the_table_allows_and_all_of_it(layer):
    used = set()
    files = [path for path in FILES if layer_of(path) == layer]
    assert files
    for path in files:
        for name in imported(ast.parse(path.read_text())):
            target = MODULES[name]
            if layer_of(target) != layer:
                used.add(layer_of(target))
                assert layer_of(target) in table()[layer], f"{path.relative_to(ROOT)} imports {name}"
            else:
                assert part_of(target) == part_of(path), f"{path.relative_to(ROOT)} imports {name}"
    assert used == table()[layer], "the table allows what nothing uses"


def test_every_file_is_in_a_layer():
    assert [path for path in FILES if not layer_of(path)] == []


def test_no_module_is_in_a_circle():
    graph = {name: set(imported(ast.parse(path.read_text()))) - {name} for name, path in MODULES.items()}
    list(graphlib.TopologicalSorter(graph).static_order())  # CycleError names the modules


def test_the_circle_test_can_fail():
    with pytest.raises(graphlib.CycleError):
        list(graphlib.TopologicalSorter({"a": {"b"}, "b": {"a"}}).static_order())


def test_every_folder_says_what_lives_there():
    for path in FILES:
        if path.name == "__init__.py":
            assert ast.get_docstring(ast.parse(path.read_text())), path.relative_to(ROOT)


def test_no_module_has_the_name_of_a_function_in_it():
    """Equal names confuse readers, and a package that imports both keeps only one of them."""
    for name, path in MODULES.items():
        if path.name == "__init__.py" or name.startswith("jax_lstm._src"):
            continue
        own = name.rpartition(".")[2]
        functions = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
        assert own not in functions, path.relative_to(ROOT)


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "__pycache__")


def test_the_top_of_crosscheck_is_small():
    assert len(entries(ROOT / "crosscheck")) <= 15


def test_no_test_lies_flat():
    assert list((ROOT / "tests").glob("test_*.py")) == []
