"""The source distribution and the wheel: from which files they are built, and what must be in the wheel."""

from __future__ import annotations

import email.message
import io
import os
import re
import shlex
import shutil
import subprocess
import tarfile
import tomllib
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from steps import Failed

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("jax_lstm", "torch_ref", "crosscheck")
KERNELS = "jax_lstm/_src/native/libjax_lstm_cpu.so"
SOURCES_OF_THE_KERNELS = (".cc", ".h")  # in the source distribution only


def project() -> dict[str, Any]:
    """Return the table `project` of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def clean_copy(folder: Path) -> Path:
    """Write the files of HEAD into a new folder, without anything that was built or changed here."""
    packed = subprocess.run(["git", "archive", "--format=tar", "HEAD"], cwd=ROOT, check=True, capture_output=True)
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def tracked_files() -> set[str]:
    """Return the names of the files of HEAD."""
    listed = subprocess.run(
        ["git", "ls-tree", "-r", "-z", "--name-only", "HEAD"], cwd=ROOT, check=True, capture_output=True
    )
    return set(listed.stdout.decode().split("\0")) - {""}


def uncommitted_files() -> list[str]:
    """Return the files whose content here is not that of HEAD, the new ones included."""
    listed = subprocess.run(["git", "status", "--porcelain", "-z"], cwd=ROOT, check=True, capture_output=True)
    return [entry[3:] for entry in listed.stdout.decode().split("\0") if entry]


def compiler() -> str | None:
    """Return the C++ compiler that setup.py would call, or None."""
    named = shlex.split(os.environ.get("CXX", ""))
    return next((found for name in named[:1] or ("c++", "g++", "clang++") if (found := shutil.which(name))), None)


def names_in(wheel: Path) -> set[str]:
    """Return the names of the files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def wrong_in_the_wheel(names: Collection[str], tracked: Collection[str], kernels: bool) -> Iterator[str]:
    """Yield what is wrong. A wheel holds the tracked files of the packages, the kernels and its own metadata.

    Args:
      names: the files in the wheel.
      tracked: the files of HEAD.
      kernels: whether it must have the compiled kernels.
    """
    expected = {name for name in tracked if name.partition("/")[0] in PACKAGES}
    expected = {name for name in expected if not name.endswith(SOURCES_OF_THE_KERNELS)}
    expected |= {f"{package}/py.typed" for package in PACKAGES} | ({KERNELS} if kernels else set())
    actual = {name for name in names if not name.partition("/")[0].endswith(".dist-info")}
    yield from (f"the wheel lacks {name}" for name in sorted(expected - actual))
    yield from (f"the wheel has {name}, which does not belong there" for name in sorted(actual - expected))


def check_wheel(wheel: Path, tracked: set[str]) -> None:
    """Fail if the content of the wheel is wrong.

    It must have the compiled kernels if there is a compiler, or if its name says that it is for one platform.
    """
    for_one_platform = not wheel.stem.endswith("-any")
    kernels = for_one_platform or compiler() is not None
    problems = list(wrong_in_the_wheel(names_in(wheel), tracked, kernels))
    if kernels and not for_one_platform:
        problems.append(f"the name of {wheel.name} says that it is for every platform, and it has kernels for one")
    if problems:
        raise Failed("\n".join(problems))


def metadata(wheel: Path) -> email.message.Message:
    """Return the metadata of a wheel. Its payload is the description."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_string(archive.read(name).decode("utf-8"))


def check_version(wheel: Path, sdist: Path, tag: str | None, changelog: str) -> None:
    """Fail if the version differs between pyproject.toml, the archives, and the tag of a release with its entry."""
    version = project()["version"]
    if not (wheel.name.startswith(f"jax_lstm-{version}-") and sdist.name == f"jax_lstm-{version}.tar.gz"):
        raise Failed(f"pyproject.toml has the version {version}, and the files are {wheel.name} and {sdist.name}")
    if tag is None:
        return
    if tag != f"v{version}":
        raise Failed(f"the tag of version {version} is v{version}, and this is {tag}")
    if not re.search(rf"^## \[?{re.escape(version)}\]?( - \d{{4}}-\d\d-\d\d)?$", changelog, re.MULTILINE):
        raise Failed(f"CHANGELOG.md has no line '## {version}' or '## {version} - DATE'. 'unreleased' must go.")
