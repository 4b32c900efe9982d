"""The API reference: every public name has a complete docstring, and every example in it prints what it says.

The site makes the reference from the docstrings, by griffe. Therefore griffe parses them here too, with the options of
the site, and its warnings are errors. griffe reads the source and imports nothing.
"""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import io
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import griffe
import pytest

from tests import ROOT
from tests.support import fresh_process, xla_flags
from tests.support.requirements import need

PACKAGES = ("jax_lstm", "jax_lstm.linen", "jax_lstm.nnx", "jax_lstm.convert", "torch_ref", "crosscheck")
NEED_TORCH = ("torch_ref", "crosscheck")
OPTIONS = {"returns_multiple_items": False}  # as in the configuration of the site
RECORDS = ("NamedTuple", "SizesByPosition")  # base classes that make an __init__ of the fields; linen has the second
HOOKS = ("setup", "extra_repr")  # methods that Flax or torch calls, and not a reader


class Entry(NamedTuple):
    """One entry of the reference: a class, a function, or a method or property of a class, as griffe sees it."""

    found: Any
    is_method: bool


@lru_cache
def loaded(package: str) -> Any:
    """Return a package as griffe sees it."""
    top, *rest = package.split(".")
    if rest:
        return loaded(top)[".".join(rest)]
    return griffe.load(top, search_paths=[ROOT], allow_inspection=False)


def entries(package: str) -> Iterator[tuple[str, Entry]]:
    """Yield what the reference shows of a package, by full names."""
    for name in loaded(package).exports:
        found = loaded(package)[name]
        found = found.final_target if found.is_alias else found
        if found.is_module:
            continue
        yield f"{package}.{name}", Entry(found, is_method=False)
        if found.is_class:
            for inner, member in found.all_members.items():
                is_public = inner == "__call__" or (not inner.startswith("_") and inner not in HOOKS)
                if is_public and (member.is_function or "property" in member.labels):
                    yield f"{package}.{name}.{inner}", Entry(member.final_target if member.is_alias else member, True)


REFERENCE = dict(entry for package in PACKAGES for entry in entries(package))


def sections(found: Any) -> dict[str, Any]:
    """Return the sections of a docstring by kind: "parameters", "returns" and so on."""
    assert found.docstring is not None, "it has no docstring"
    return {section.kind.value: section.value for section in found.docstring.parse("google", **OPTIONS)}


def is_record(found: Any) -> bool:
    """Return whether a class is constructed from its fields."""
    bases = [str(base).rpartition(".")[2] for base in found.bases] if found.is_class else []
    return "dataclass" in found.labels or any(base in RECORDS for base in bases)


def fields(found: Any) -> list[str]:
    """Return the public fields of a record."""
    is_field = lambda member: member.is_attribute and member.annotation is not None and "property" not in member.labels
    return [name for name, member in found.members.items() if not name.startswith("_") and is_field(member)]


def arguments(found: Any) -> list[str]:
    """Return the arguments of a function or of a constructor."""
    return [argument.name for argument in found.parameters if argument.name not in ("self", "cls")]


@pytest.mark.parametrize("name", REFERENCE)
def test_a_docstring_is_complete(name, caplog):
    found, is_method = REFERENCE[name]
    has = sections(found)
    assert [record.getMessage() for record in caplog.records] == []
    assert not re.search(r":\w+:`", found.docstring.value), "mkdocstrings does not render Sphinx's roles"
    documented = lambda kind: [item.name.lstrip("*") for item in has.get(kind, ())]
    if is_record(found):
        assert documented("attributes") == fields(found)
    elif found.is_function or documented("parameters") or "__init__" in found.members:
        assert documented("parameters") == arguments(found)  # a class that inherits its constructor may list nothing
    for item in has.get("raises", ()):
        assert re.fullmatch(r"[\w.]+", str(item.annotation)), "each exception has an entry of its own"
    if found.is_function and str(found.returns) not in ("None", "NoReturn"):
        assert "returns" in has, f"it returns {found.returns}"
    if not is_method:
        assert "examples" in has, "a section of this name is missing: 'Example:' is another one"


def run_examples(package: str) -> tuple[int, str]:
    """Run the examples of a package. Return their number, and the report of those that print something else.

    Without torch, those of a docstring that imports it do not run.
    """
    module, output, count = importlib.import_module(package), io.StringIO(), 0
    has_torch = importlib.util.find_spec("torch") is not None
    for name in module.__all__:
        found = getattr(module, name)
        if isinstance(found, type(doctest)):
            continue
        for test in doctest.DocTestFinder().find(found, f"{package}.{name}", module=False, globs={}):
            if has_torch or not any("import torch" in example.source for example in test.examples):
                count += doctest.DocTestRunner(verbose=False).run(test, out=output.write).attempted
    return count, output.getvalue()


@pytest.mark.parametrize("package", PACKAGES)
def test_examples_print_what_they_say(package, tmp_path):
    """A reader runs them with the settings of JAX, and not with those of the tests."""
    if package in NEED_TORCH:
        need("torch")
    environment = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": xla_flags.FLAGS}
    result, error = fresh_process.run(run_examples, package, folder=tmp_path, environment=environment)
    assert not error, error
    count, report = result
    assert report == ""
    assert count > 0
