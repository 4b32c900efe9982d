"""If a package is missing, the command ends with one line that says what to install, and --help still works."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Collection, Sequence

import pytest

from crosscheck.__main__ import HELP
from crosscheck.core.missing import INSTALL, PACKAGES
from tests import ROOT
from tests.support.requirements import need

WITHOUT = """
import runpy, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""
COMMAND = """
program = sys.argv.pop(1) if sys.argv[1:2] == ["benchmarks"] else "crosscheck"
sys.argv[0] = program
runpy.run_module(program, run_name="__main__", alter_sys=True)
"""
NO_WORK = """
import types
sys.modules["crosscheck.core.processes"] = types.SimpleNamespace(run_all=None)
sys.modules["benchmarks.measurement"] = types.SimpleNamespace(measure=None, Say=None)
"""  # a command that begins its work fails differently
COMMANDS = ["checkpoint", "faults", "gradient-flow", "gradients", "matrix", "notebook", "train"]
PLAIN = {"typer", "rich", "torch", "matplotlib", "jinja2", "markupsafe", "safetensors"}  # jax-lstm requires none


def run(blocked: Collection[str], *arguments: str, code: str = COMMAND) -> subprocess.CompletedProcess[str]:
    source = WITHOUT.format(blocked=sorted(blocked)) + code
    command = [sys.executable, "-c", source, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def program_of(arguments: Sequence[str]) -> str:
    return "benchmarks" if arguments[:1] == ["benchmarks"] else "crosscheck"


def line(package: str, arguments: Sequence[str]) -> str:
    return f"{program_of(arguments)}: this command needs {package}, which is not installed: {INSTALL}\n"


def assert_one_line(blocked: Collection[str], arguments: Sequence[str], package: str) -> None:
    done = run(blocked, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line(package, arguments))


@pytest.mark.parametrize(
    "arguments", [[], ["--version"], ["--case", "text"], ["benchmarks"], *([name] for name in COMMANDS)]
)
def test_a_plain_installation_says_what_is_missing(arguments):
    assert_one_line(PLAIN, arguments, "typer")


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["train", "--help"]])
def test_a_plain_installation_has_help(arguments):
    done = run(PLAIN, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, HELP, "")


def test_that_help_has_every_command():
    assert INSTALL in HELP
    named = [words[1] for words in map(str.split, HELP.splitlines()) if words[:1] == ["crosscheck"]]
    assert [name for name in named if name in COMMANDS] == COMMANDS


@pytest.mark.parametrize("arguments", [[], ["benchmarks"], *([name] for name in COMMANDS)])
def test_help_needs_no_framework(arguments):
    done = run({"jax", "jaxlib", "flax", "torch", "numpy", "optax", "matplotlib", "jinja2"}, *arguments, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: {program_of(arguments)}")


@pytest.mark.parametrize(
    "arguments", [[], ["checkpoint", "x.npz"], ["benchmarks"], *([n] for n in COMMANDS if n != "checkpoint")]
)
def test_a_run_without_torch_says_so(arguments):
    assert_one_line({"torch"}, arguments, "torch")


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("rich", []),
        ("typer", []),
        ("optax", []),
        ("orbax", ["checkpoint", "x.npz", "--export", "none"]),
        ("ml_dtypes", []),
        ("safetensors", ["checkpoint", "x.npz"]),
        ("jinja2", ["--report", "none"]),
        ("matplotlib", ["--report", "none"]),
        ("matplotlib", ["gradient-flow", "--plot", "none.png"]),
        ("matplotlib", ["benchmarks", "--plot", "none.png"]),
    ],
)
def test_any_other_package_that_is_missing_is_named_before_any_work(module, arguments):
    need("torch")
    done = run({module}, *arguments, code=NO_WORK + COMMAND)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line(PACKAGES[module], arguments))
    assert not list(ROOT.glob("none*"))


def test_models_of_a_library_that_is_missing_are_named():
    """The score of the LSTM does not need this library."""
    need("torch")
    done = run({"equinox"}, "faults", "--models", "--list")
    told = "--models needs equinox, which is not installed: pip install 'jax-lstm[libraries]'"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"crosscheck: {told}\n")
    assert run({"equinox"}, "faults", "--list").returncode == 0


def test_a_missing_module_of_ours_is_a_mistake_and_keeps_its_traceback():
    code = "sys.modules['crosscheck.commands.cli.choices'] = None\n" + COMMAND
    done = run(set(), "--help", code=code)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")


def test_the_package_can_be_imported_and_names_what_it_misses():
    code = """
import crosscheck, crosscheck.pytest_plugin
print(crosscheck.__version__ != "")
try:
    crosscheck.check
except ModuleNotFoundError as error:
    print(error, "/", error.name, error.__cause__, error.__suppress_context__)
sys.modules["crosscheck.core.verdict"] = None
try:
    crosscheck.Verdict
except ModuleNotFoundError as error:
    print(error.name)
"""
    done = run(PLAIN, code=code)
    told = f"crosscheck.check needs torch, which is not installed: {INSTALL} / torch None True"
    assert done.stdout.splitlines() == ["True", told, "crosscheck.core.verdict"], done.stderr


def test_every_package_that_is_imported_is_known():
    known = {*PACKAGES, *sys.stdlib_module_names, "benchmarks", "crosscheck", "jax_lstm", "torch_ref", "pytest"}
    optional = {"haiku", "equinox", "keras", "onnx", "onnxruntime"}  # an implementation that is missing is left out
    for file in [*(ROOT / "crosscheck").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert {name.partition(".")[0] for name in names} <= known | optional, file
