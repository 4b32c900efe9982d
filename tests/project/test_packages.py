"""What the packages say of themselves agrees with the repository. `make release-check` builds and installs them."""

from __future__ import annotations

import ast
import fnmatch
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections import defaultdict
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
import yaml

from tests import ROOT
from tests.support.documents import links
from tests.support.requirements import EXTRAS as GUARDED_IN_TESTS

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]
MAKEFILE = (ROOT / "Makefile").read_text()
PAGE = (ROOT / "docs" / "versions.md").read_text()
CLAIMED = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r"Python :: \d\.\d", line)]
OWN = {"jax_lstm", "torch_ref", "crosscheck", "benchmarks", "examples", "tests"}
DISTRIBUTIONS = {  # the modules whose distribution has another name
    "PIL": "pillow",
    "griffe": "griffelib",
    "haiku": "dm-haiku",
    "markdown_it": "markdown-it-py",
    "ml_dtypes": "ml_dtypes",
    "orbax": "orbax-checkpoint",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
BROUGHT = {  # the distributions that no extra names, and what requires them
    "jaxlib": "jax",
    "markupsafe": "jinja2",
    "ml_dtypes": "jax",
    "pillow": "matplotlib",
    "scipy": "jax",
}


def release_check(*names):
    """Import modules of the release check, which is no package."""
    folder = str(ROOT / ".ci" / "release-check")
    sys.path.insert(0, folder)
    try:
        return [import_module(name) for name in names]
    finally:
        sys.path.remove(folder)


archives, environments, release, steps, table = release_check("archives", "environments", "release", "steps", "table")


def tracked_files():
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no clone, so that git does not say which files belong to the repository")
    return set(listed.stdout.split("\0")) - {""}


# The archives


def test_the_manifest_names_every_file_of_the_repository():
    patterns, folders = [], []
    for line in (ROOT / "MANIFEST.in").read_text().splitlines():
        match line.split():
            case ["include", *names]:
                patterns += names
            case ["graft", folder]:
                folders.append(folder)
    patterns += ["LICENSE", "MANIFEST.in", "setup.py"]  # setuptools takes these without being told
    for name in tracked_files():
        top, _, below = name.partition("/")
        assert top in folders if below else any(fnmatch.fnmatchcase(name, each) for each in patterns), name


def test_the_check_of_the_wheel_sees_what_is_missing_and_what_is_too_much():
    tracked = {f"{package}/py.typed" for package in archives.PACKAGES}
    tracked |= {"README.md", "tests/a.py", "jax_lstm/a.py", "jax_lstm/_src/native/a.cc", "jax_lstm/_src/native/a.h"}
    names = {name for name in tracked if name.endswith(("typed", "jax_lstm/a.py"))} | {"jax_lstm-0.1.0.dist-info/WHEEL"}
    wrong = lambda names, kernels: " ".join(archives.wrong_in_the_wheel(names, tracked, kernels))
    assert wrong(names, False) == wrong(names | {archives.KERNELS}, True) == ""
    assert wrong(names, True) == f"the wheel lacks {archives.KERNELS}"
    assert wrong(names - {"torch_ref/py.typed"}, False) == "the wheel lacks torch_ref/py.typed"
    for name in ("tests/a.py", "jax_lstm/_src/native/a.h", archives.KERNELS):
        assert wrong(names | {name}, False) == f"the wheel has {name}, which does not belong there"


def test_the_packages_are_those_of_the_wheel():
    assert PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"] == [f"{name}*" for name in archives.PACKAGES]
    for package in archives.PACKAGES:
        assert (ROOT / package / "py.typed").is_file()


def test_the_version_of_a_release_is_its_tag_and_has_an_entry():
    version = PROJECT["version"]
    wheel, sdist = Path(f"jax_lstm-{version}-py3-none-any.whl"), Path(f"jax_lstm-{version}.tar.gz")
    for entry in (f"## {version}", f"## {version} - 2030-01-31", f"## [{version}] - 2030-01-31"):
        archives.check_version(wheel, sdist, f"v{version}", f"# Changelog\n\n{entry}\n")
    archives.check_version(wheel, sdist, None, "")
    for tag, entry in (("v9.9.9", f"## {version}"), (f"v{version}", f"## {version} (unreleased)")):
        with pytest.raises(steps.Failed):
            archives.check_version(wheel, sdist, tag, f"# Changelog\n\n{entry}\n")
    with pytest.raises(steps.Failed):
        archives.check_version(wheel, Path("jax_lstm-9.9.9.tar.gz"), None, "")


# What PyPI shows


def test_the_description_is_the_readme_with_absolute_links(tmp_path, monkeypatch):
    setuptools = pytest.importorskip("setuptools", reason="setuptools is not installed; `make release-check` has it")
    given = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: given.update(arguments))
    monkeypatch.chdir(ROOT)
    runpy.run_path("setup.py")
    text = given["long_description"]
    (tmp_path / "description.md").write_text(text)
    targets = list(links(str(tmp_path / "description.md")))
    before = list(links("README.md"))
    assert len(targets) == len(before) > 10
    prefix = re.compile(rf"{re.escape(PROJECT['urls']['Repository'])}/(blob|raw)/v{re.escape(PROJECT['version'])}/")
    for old, new in zip(before, targets, strict=True):
        if "://" in old:
            assert new == old
            continue
        assert prefix.match(new), new
        assert prefix.sub("", new) == (f"README.md{old}" if old.startswith("#") else old)
        assert (ROOT / prefix.sub("", new).partition("#")[0]).exists()
    fence = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
    assert fence.findall(text) == fence.findall((ROOT / "README.md").read_text())


def test_the_urls_are_those_of_one_repository():
    urls = PROJECT["urls"]
    assert {"Homepage", "Documentation", "Repository", "Changelog", "Issues"} == set(urls)
    for name in ("Homepage", "Changelog", "Issues"):
        assert urls[name].startswith(urls["Repository"])


def test_the_citation_agrees_with_the_project():
    """The keys and values are those of version 1.2.0 of the Citation File Format."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"authors", "cff-version", "message", "title"} <= set(citation)  # all that the format requires
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert citation["title"] == PROJECT["name"]
    assert str(citation["version"]) == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"] == PROJECT["authors"]
    assert citation["keywords"] == PROJECT["keywords"]
    assert citation["abstract"] == f"{PROJECT['description']}."
    assert citation["repository-code"] == PROJECT["urls"]["Repository"]
    assert citation["url"] == PROJECT["urls"]["Documentation"]


# The extras


def closure(extra):
    """Return the distributions that an installation with this extra has by name; "" is the one without an extra."""
    base = {re.match(r"[\w-]+", line)[0] for line in PROJECT["dependencies"]}
    return base | environments.packages_of(extra) if extra else base


def available(extra):
    """Return the distributions that can be imported with this extra."""
    named = closure(extra)
    return named | {name for name, parent in BROUGHT.items() if parent in named}


@cache
def third_party_imports(folder):
    """Return each distribution that is imported, with the files and whether only functions import it."""
    found = defaultdict(set)

    def visit(tree, file, lazy):
        for node in ast.iter_child_nodes(tree):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            elif not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
                visit(node, file, lazy or isinstance(node, ast.FunctionDef))
            for module in (name.partition(".")[0] for name in names):
                if module not in sys.stdlib_module_names and module not in OWN:
                    found[DISTRIBUTIONS.get(module, module)].add((file.relative_to(ROOT).as_posix(), lazy))

    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    for file in files:
        visit(ast.parse(file.read_text()), file, False)
    return found


def needed(folder, guarded):
    """Return the distributions that the code cannot do without.

    Args:
      folder: the code.
      guarded: the distributions that may be missing, and the beginnings of the paths that import them.
    """
    found = third_party_imports(folder)
    for name, places in guarded.items():
        assert name in found, f"{folder} does not import {name}"
        assert all(file.startswith(tuple(places)) for file, _ in found[name]), name
    return set(found) - set(guarded)


def test_without_an_extra_jax_lstm_can_be_imported_and_its_files_need_one():
    files = {"h5py": ["jax_lstm/convert/keras/"], "onnx": ["jax_lstm/convert/onnx/"]}
    files |= {"safetensors": ["jax_lstm/convert/safetensors.py"]}
    assert needed("jax_lstm", files) <= available("")
    lazily = {name: all(lazy for _, lazy in third_party_imports("jax_lstm")[name]) for name in files}
    assert lazily == dict.fromkeys(files, True)
    assert set(files) == environments.packages_of("files")


def test_the_extra_torch_has_what_torch_ref_needs():
    assert needed("torch_ref", {}) == environments.packages_of("torch")


def test_the_extra_crosscheck_has_what_the_commands_need():
    """Without the extra libraries, an implementation is not installed, and `crosscheck faults --models` says so."""
    libraries = ["crosscheck/libraries/", "crosscheck/models/"]
    guarded = dict.fromkeys(("dm-haiku", "equinox", "keras", "onnxruntime"), libraries)
    needs = needed("crosscheck", guarded | {"pytest": ["crosscheck/pytest_plugin.py"]})
    assert closure("crosscheck") <= needs <= available("crosscheck")
    assert set(guarded) == environments.packages_of("libraries") - environments.packages_of("files")
    assert needed("benchmarks", {}) <= available("crosscheck")


def test_the_extra_examples_has_what_the_examples_need():
    assert needed("examples", {}) <= available("examples")
    assert closure("examples") - closure("crosscheck") == {"scikit-learn"}


def test_the_extra_scripts_is_enough_for_the_examples_that_need_neither_torch_nor_scikit_learn():
    others = {"torch": ["examples/port_a_torch_model/"], "safetensors": ["examples/port_a_torch_model/"]}
    others |= {"scikit-learn": ["examples/plain_training/", "examples/sequence_classification/"]}
    assert needed("examples", others) <= available("scripts")


def test_the_extra_test_has_what_the_tests_need_besides_torch():
    """A test that needs another library asks for it by `need`, and is skipped without it."""
    guarded = {DISTRIBUTIONS.get(module, module) for module in GUARDED_IN_TESTS} | {"setuptools"}
    assert set(third_party_imports("tests")) <= available("test") | guarded
    assert "torch" not in closure("test")


@pytest.mark.parametrize("name", BROUGHT)
def test_what_no_extra_names_is_required_by_what_an_extra_names(name):
    try:
        required = requires(BROUGHT[name])
    except PackageNotFoundError:
        pytest.skip(f"{BROUGHT[name]} is not installed")
    assert name in {re.match(r"[\w-]+", line)[0].lower() for line in required if "extra ==" not in line}


def test_the_page_names_every_extra():
    section = PAGE.split("## The extras\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(EXTRAS)


def test_the_page_has_the_bounds_of_the_project():
    rows = dict(re.findall(r"^\| (\w+) \| (>=[\d.]+) \|", PAGE, re.MULTILINE))
    bounds = [*PROJECT["dependencies"], *EXTRAS["torch"], f"Python{PROJECT['requires-python']}"]
    assert rows == dict(re.fullmatch(r"(\w+)(>=.*)", bound).groups() for bound in bounds)
    assert environments.oldest_packages() == [line.replace(">=", "==") for line in PROJECT["dependencies"]]
    with_torch = [f"`{extra}`" for extra in EXTRAS if "torch" in environments.packages_of(extra)]
    (row,) = re.findall(r"^\| torch \|.*$", PAGE, re.MULTILINE)
    assert re.findall(r"`\w+`", row) == with_torch


# The versions


def test_the_claimed_pythons_are_those_that_were_run():
    assert environments.supported_versions() == CLAIMED
    assert PROJECT["requires-python"] == f">={CLAIMED[0]}"
    rows = re.findall(r"^\| (\d\.\d+)\.\d+ .*\| passed +\|$", PAGE, re.MULTILINE)
    assert sorted(set(rows)) == CLAIMED


def test_a_python_that_is_not_here_is_not_found():
    assert environments.find_python("3.99") is None
    assert environments.find_python("2.0") is None


def test_a_python_that_is_not_here_fails_the_check(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(release, "supported_versions", lambda: ["3.99"])
    monkeypatch.setattr(release, "build", lambda *_: None)
    done = steps.Steps()
    assert release.check(done, tmp_path, None, None) == (None, [{"Python": "3.99", "where": "3.99"}])
    assert done.failed("3.99")
    assert "FAILED\nno Python 3.99 runs here" in capsys.readouterr().out


def test_a_command_that_fails_fails_its_step_and_the_next_step_runs(capsys):
    done = steps.Steps()
    for code in (3, 0):
        with done.step("here", f"end with {code}"):
            steps.run([sys.executable, "-c", f"print('printed'); raise SystemExit({code})"])
    assert done.failures == ["here: end with 3"]
    printed = capsys.readouterr().out
    assert "ended with 3, not 0:\nprinted" in printed
    assert re.search(r"end with 0: ok", printed)


def test_the_table_is_written_between_the_comments(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- release-check begins -->\n<!-- release-check ends -->\nb\n")
    table.write(page, [{"Python": "old", "result": "passed"}])
    table.write(page, [{"Python": "3.11.7", "result": "passed"}])
    lines = page.read_text().splitlines()
    assert lines[:3] == ["a", "<!-- release-check begins -->", ""]
    assert lines[-3:] == ["", "<!-- release-check ends -->", "b"]
    assert "old" not in page.read_text()
    assert [cell.strip() for cell in lines[5].split("|")] == ["", "3.11.7", *[""] * 7, "passed", ""]
    page.write_text("no comments")
    with pytest.raises(ValueError, match="must have one place"):
        table.write(page, [])


# The workflows

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def jobs(workflow):
    return yaml.safe_load(workflow.read_text())["jobs"].items()


def test_the_workflows_are_there():
    assert [workflow.stem for workflow in WORKFLOWS] == ["docs", "release", "tests"]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_each_step_of_a_workflow_is_a_target_of_the_makefile(workflow):
    targets = set(re.findall(r"^([\w-]+):", MAKEFILE, re.MULTILINE))
    commands = [step["run"] for _, job in jobs(workflow) for step in job["steps"] if "run" in step]
    assert commands
    for command in commands:
        program, target, *variables = shlex.split(re.sub(r"\$\{\{.*?\}\}", "VALUE", command))
        assert program == "make"
        assert target in targets, command
        for name in (variable.partition("=")[0] for variable in variables):
            assert f"$({name})" in MAKEFILE or f"$(if $({name})" in MAKEFILE, command


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_limited(workflow):
    content = yaml.safe_load(workflow.read_text())
    assert content["permissions"] == {"contents": "read"}
    assert content["concurrency"]["group"]
    for name, job in jobs(workflow):
        assert job["timeout-minutes"] <= 120, name
        assert job.get("permissions", {}) == ({"id-token": "write"} if name == "publish" else {}), name
        for action in (step["uses"] for step in job["steps"] if "uses" in step):
            assert re.fullmatch(r"actions/[\w-]+@v\d+|pypa/gh-action-pypi-publish@release/v1", action)


def test_the_workflows_run_the_claimed_pythons():
    by_name = {workflow.stem: dict(jobs(workflow)) for workflow in WORKFLOWS}
    tests, release = by_name["tests"], by_name["release"]
    of = lambda job: next(step["with"] for step in job["steps"] if "setup-python" in step.get("uses", ""))
    matrix = tests["newest-jax"]["strategy"]["matrix"]["python"]
    assert [of(tests["with-torch"])["python-version"], *matrix] == CLAIMED
    assert sorted(of(release["check"])["python-version"].split()) == CLAIMED
