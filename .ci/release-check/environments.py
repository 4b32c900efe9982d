"""The Pythons of this machine, and fresh environments outside the tree."""

from __future__ import annotations

import re
from pathlib import Path

from archives import ROOT, project
from steps import run

CLASSIFIER = re.compile(r"Programming Language :: Python :: (\d\.\d+)")


def supported_versions() -> list[str]:
    """Return the versions of Python that pyproject.toml names, oldest first."""
    found = [match[1] for line in project()["classifiers"] if (match := CLASSIFIER.fullmatch(line))]
    return sorted(found, key=lambda version: int(version.partition(".")[2]))


def find_python(version: str) -> Path | None:
    """Return a Python of this version that runs here, or None."""
    found = run([ROOT / ".ci" / "newest-python", version]).strip()
    return Path(found) if found else None


def packages_of(extra: str) -> set[str]:
    """Return the names of the packages that an extra brings, those of extras that it includes too."""
    names: set[str] = set()
    for requirement in project()["optional-dependencies"][extra]:
        name, inner = re.match(r"([\w.-]+)(?:\[([\w,]+)\])?", requirement).groups()  # type: ignore[union-attr]
        if name == project()["name"]:
            names = names.union(*(packages_of(each) for each in inner.split(",")))
        else:
            names.add(name)
    return names


def oldest_packages() -> list[str]:
    """Return the oldest releases that pyproject.toml allows of the packages that every installation has."""
    lower = [re.fullmatch(r"([\w-]+)>=([\d.]+)", requirement) for requirement in project()["dependencies"]]
    assert all(lower), "each dependency has one lower bound"
    return [f"{found[1]}=={found[2]}" for found in lower if found]


class Environment:
    """A fresh virtual environment, and an empty folder to run commands in."""

    def __init__(self, python: Path, folder: Path) -> None:
        run([python, "-m", "venv", folder / "venv"])
        self.bin = folder / "venv" / "bin"
        self.python = self.bin / "python"
        self.empty = folder / "empty"
        self.empty.mkdir()

    def install(self, *arguments: str | Path) -> None:
        """Install packages, and see that every package has what it requires."""
        run([self.python, "-m", "pip", "install", "--quiet", *arguments], cwd=self.empty)
        run([self.python, "-m", "pip", "check"], cwd=self.empty)

    def resolve(self, *arguments: str | Path) -> None:
        """See that these packages can be installed together, without doing so."""
        run([self.python, "-m", "pip", "install", "--quiet", "--dry-run", *arguments], cwd=self.empty)

    def run(self, *arguments: str | Path) -> str:
        """Run the Python of the environment in the empty folder."""
        return run([self.python, *arguments], cwd=self.empty, variables={"JAX_PLATFORMS": "cpu"})
