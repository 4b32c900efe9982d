"""Checks a release: `make release-check`. Everything is made from a clean copy of HEAD.

1. The source distribution has every file that git tracks and no other; the wheel has the packages and the kernels.
2. On each Python that pyproject.toml names, the wheel works in a fresh environment outside the tree: on the oldest of
   them with torch, on the others without. It also works with the oldest packages that pyproject.toml allows.
3. The source distribution installs. Type checkers find the types of the wheel, and those of an editable install.
4. Each extra can be installed.

A Python that is not here is a failure: what was not run is not supported. This downloads what pip has not cached.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import archives
import installed
import table
from environments import Environment, find_python, oldest_packages, supported_versions
from steps import Failed, Steps, run

TOOLS = (
    "build",
    "check-manifest",
    "mypy>=1.15",
    "pyright>=1.1.400",
    "readme_renderer[md]",
    "trove-classifiers",
    "twine",
)
ARCHIVES = "archives"
AT_ONCE = 2  # environments; much of the time pip waits for a download


@dataclass(frozen=True)
class Release:
    """What is checked, and what checks it."""

    steps: Steps
    folder: Path
    source: Path
    tools: Environment
    sdist: Path
    wheel: Path

    @property
    def kernels(self) -> bool:
        return archives.KERNELS in archives.names_in(self.wheel)

    def requirement(self, extra: str = "") -> str:
        """Return the wheel as a requirement of pip."""
        return f"{archives.project()['name']}{extra and f'[{extra}]'} @ {self.wheel.as_uri()}"

    def environment(self, where: str, python: Path, *arguments: str | Path) -> Environment | None:
        """Make an environment and install these. None if that failed."""
        made = None
        with self.steps.step(where, "install"):
            made = Environment(python, self.folder / where.replace(" ", "-"))
            made.install(*arguments)
        return None if self.steps.failed(where) else made


def build(steps: Steps, folder: Path, dist: Path | None) -> Release | None:
    """Build both archives, or only the source distribution if ``dist`` has the wheel."""
    source = archives.clean_copy(folder / "source")
    if uncommitted := archives.uncommitted_files():
        steps.note(ARCHIVES, f"what is not committed: {', '.join(uncommitted)}")
    release = None
    with steps.step(ARCHIVES, "build"):
        tools = Environment(Path(sys.executable), folder / "tools")
        tools.install(*TOOLS)
        if installed.has_node():
            run([tools.bin / "pyright", "--version"], variables=installed.OWN_NODE)  # the first call downloads it
        built = folder / "dist"
        run([tools.python, "-m", "build", "--outdir", built, *(["--sdist"] if dist else []), source])
        wheels = list((dist or built).glob("*.whl"))
        if len(wheels) != 1:
            raise Failed(f"{dist or built} must have one wheel, and has {len(wheels)}")
        (sdist,) = built.glob("*.tar.gz")
        release = Release(steps, folder, source, tools, sdist, wheels[0].resolve())
    return release


def check_archives(release: Release, tag: str | None) -> None:
    """Check what is in the source distribution, the wheel and its metadata."""
    steps, python, tracked = release.steps, release.tools.python, archives.tracked_files()
    with steps.step(ARCHIVES, "twine check"):
        run([python, "-m", "twine", "check", "--strict", release.wheel, release.sdist])
    with steps.step(ARCHIVES, "one version everywhere"):
        changelog = (release.source / "CHANGELOG.md").read_text(encoding="utf-8")
        archives.check_version(release.wheel, release.sdist, tag, changelog)
    with steps.step(ARCHIVES, "the source distribution is the repository"):
        run([python, "-m", "check_manifest"], cwd=archives.ROOT)  # it builds one more, from the files that git tracks
    with steps.step(ARCHIVES, "the wheel has the packages, and the kernels if there is a compiler"):
        archives.check_wheel(release.wheel, tracked)
    if not release.kernels:
        steps.note(ARCHIVES, "the compiled kernels, since the wheel has none")
    metadata = archives.metadata(release.wheel)
    with steps.step(ARCHIVES, "the classifiers are known"):
        known = run([python, "-c", "import trove_classifiers; print(*trove_classifiers.classifiers, sep='\\n')"])
        if unknown := set(metadata.get_all("Classifier", [])) - set(known.splitlines()):
            raise Failed(f"PyPI does not know {', '.join(sorted(unknown))}")
    with steps.step(ARCHIVES, "the description has absolute links"):
        description = release.folder / "description.md"
        description.write_text(str(metadata.get_payload()), encoding="utf-8")
        if relative := run([python, installed.PROGRAMS / "description_links.py", description]).strip():
            raise Failed(f"these targets in README.md lead nowhere on PyPI:\n{relative}")


def check_with_torch(release: Release, where: str, python: Path) -> table.Row:
    """Check everything that can be installed: the cross-check, the types, an editable install, the extras."""
    steps = release.steps
    constraints = ["--constraint", str(archives.ROOT / "constraints.txt")]
    environment = release.environment(where, python, *constraints, release.requirement("crosscheck"))
    row = run_jax_lstm(release, where, environment, "wheel")
    if environment is None:
        return row
    with steps.step(where, "torch_ref runs without JAX"):
        environment.run(installed.PROGRAMS / "installed_torch_ref.py")
    with steps.step(where, "crosscheck --case notebook"):
        installed.check_crosscheck(environment)
    installed.check_types(steps, where, environment, release.tools, release.source)
    installed.check_extras(steps, where, environment, release.requirement, constraints)
    with steps.step(where, "install the source as editable"):
        environment.install("--editable", release.source)
    installed.check_types(steps, f"{where} editable", environment, release.tools, release.source)
    return row


def check_without_torch(release: Release, where: str, python: Path, extras: bool) -> table.Row:
    """Check what runs without torch, and the message of what does not."""
    environment = release.environment(where, python, release.requirement())
    row = run_jax_lstm(release, where, environment, "wheel")
    if environment is not None:
        with release.steps.step(where, "crosscheck says what is missing"):
            installed.check_message(environment, installed.MISSING)
        installed.check_types(release.steps, where, environment, release.tools, release.source)
        if extras:
            installed.check_extras(release.steps, where, environment, release.requirement, None)
    return row


def check_oldest_packages(release: Release, version: str, python: Path) -> table.Row:
    """Run the package with the oldest releases that pyproject.toml allows."""
    where = f"{version} oldest"
    environment = release.environment(where, python, release.requirement(), *oldest_packages())
    return run_jax_lstm(release, where, environment, "wheel, oldest packages")


def check_sdist(release: Release, version: str, python: Path) -> table.Row:
    """Install the source distribution, which builds it, with the libraries of the command line but without torch."""
    where = f"{version} source"
    requirement = f"{archives.project()['name']}[scripts] @ {release.sdist.as_uri()}"
    environment = release.environment(where, python, requirement)
    row = run_jax_lstm(release, where, environment, "source distribution")
    if environment is not None:
        with release.steps.step(where, "crosscheck says that torch is missing"):
            installed.check_message(environment, installed.MISSING_TORCH)
    return row


def run_jax_lstm(release: Release, where: str, environment: Environment | None, what: str) -> table.Row:
    """Run the package, and return its row of the table, without the result."""
    kernels = release.kernels
    row = {"Python": where.partition(" ")[0], "kernels": "yes" if kernels else "no", "installed": what, "where": where}
    if environment is not None:
        with release.steps.step(where, "jax_lstm runs without torch"):
            row |= installed.versions_after_a_run(environment, kernels)
    return row


def check(steps: Steps, folder: Path, dist: Path | None, tag: str | None) -> tuple[Release | None, list[table.Row]]:
    """Check the archives, then each Python. Return what was checked and the rows of the table."""
    rows: list[table.Row] = []
    found: dict[str, Path] = {}
    versions = supported_versions()
    for version in versions:
        if python := find_python(version):
            found[version] = python
            continue
        with steps.step(version, "run"):
            raise Failed(f"no Python {version} runs here, so that nothing is checked with it")
        rows.append({"Python": version, "where": version})
    release = build(steps, folder, dist)
    if release is None:
        return None, rows
    check_archives(release, tag)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = []
        for version, python in found.items():
            if version == versions[0]:
                running.append(pool.submit(check_with_torch, release, version, python))
                running.append(pool.submit(check_oldest_packages, release, version, python))
            else:
                running.append(pool.submit(check_without_torch, release, version, python, version == versions[-1]))
            if version == versions[-1]:
                running.append(pool.submit(check_sdist, release, version, python))
        rows += [each.result() for each in running]
    return release, rows


def main() -> int:
    """Run the check. Return 0 if nothing failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the table into docs/versions.md if all passed")
    parser.add_argument("--dist", type=Path, help="check the wheel of this folder, put the source distribution there")
    parser.add_argument("--tag", help="the tag of the release: it must name the version, and CHANGELOG.md must too")
    options = parser.parse_args()
    steps = Steps()
    with tempfile.TemporaryDirectory(prefix="release-check-") as folder:
        release, rows = check(steps, Path(folder), options.dist, options.tag)
        for row in rows:
            row["result"] = "failed" if steps.failed(row.pop("where")) else "passed"
        if options.dist and release and not steps.failures:
            shutil.copy(release.sdist, options.dist)
    print(f"\n{table.markdown(rows)}\n")
    for note in steps.notes:
        print(f"not checked: {note}")
    for failure in steps.failures:
        print(f"FAILED: {failure}")
    if options.write and not steps.failures:
        table.write(archives.ROOT / "docs" / "versions.md", rows)
    print("release-check: FAILED" if steps.failures else "release-check: passed")
    return int(bool(steps.failures))
