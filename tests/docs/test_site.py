"""The site's API reference lists every public name. `make docs` checks the rest: pages, links, anchors, docstrings."""

from __future__ import annotations

import re
from importlib import import_module

import pytest

from tests import ROOT
from tests.support.requirements import need

PACKAGES = {
    "jax_lstm": "jax_lstm",
    "jax_lstm.linen": "linen",
    "jax_lstm.nnx": "nnx",
    "jax_lstm.convert": "convert",
    "torch_ref": "torch_ref",
    "crosscheck": "crosscheck",
}
PLUGIN = {"crosscheck.pytest_plugin.crosscheck", "crosscheck.pytest_plugin.Crosscheck"}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_reference_has_each_public_name_once(package):
    if package == "torch_ref":
        need("torch")
    names = {f"{package}.{name}" for name in import_module(package).__all__} - set(PACKAGES)
    if package == "crosscheck":
        names |= PLUGIN
    page = (ROOT / "docs" / "api" / f"{PACKAGES[package]}.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^::: (\S+)$", page, re.MULTILINE)) == sorted(names)
