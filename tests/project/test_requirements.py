"""A test that needs a missing library skips, with a reason that names the extra which installs it."""

from __future__ import annotations

import re
import sys
import tomllib

import pytest

from tests import ROOT
from tests.support.requirements import EXTRAS, need

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
PACKAGES = {"haiku": "dm-haiku"}  # packages whose name differs from their module's


def packages(extra):
    """Yield the packages of an extra, and of the extras that it includes."""
    for requirement in PROJECT[extra]:
        name, extras = re.match(r"([\w-]+)(?:\[([\w,]+)\])?", requirement).groups()
        if name == "jax-lstm":
            for inner in extras.split(","):
                yield from packages(inner)
        else:
            yield name


@pytest.mark.parametrize("module", EXTRAS)
def test_a_missing_library_skips_the_test_and_names_the_extra(module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(pytest.skip.Exception) as skipped:
        need(module)
    assert skipped.value.msg == f"{module} is of the extra {EXTRAS[module]!r}, which is not installed"
    assert PACKAGES.get(module, module) in packages(EXTRAS[module])


def test_an_installed_library_is_returned():
    assert need("hypothesis") is sys.modules["hypothesis"]


def test_the_extra_test_has_all_of_dev_except_torch_linters_and_what_only_the_cross_check_needs():
    assert "torch" not in packages("test")
    assert set(packages("dev")) - set(packages("test")) == {"torch", "jinja2", "ml_dtypes", "mypy", "pyright", "ruff"}
