"""The plugin of the installed package: a fixture, a diagnosis in the failure, and no cost for other tests."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.requirements import need

TESTS = """
import jax.numpy as jnp, numpy as np, torch

module = torch.nn.Linear(3, 2)
params = {name: p.detach().numpy() for name, p in module.named_parameters()}
x = np.random.default_rng(0).normal(size=(4, 3))


def right(params, x):
    return x @ params["weight"].T + params["bias"]


def test_right(crosscheck):
    assert crosscheck.assert_agree(right, module, params, (x,)).ok


def test_wrong(crosscheck):
    crosscheck.assert_agree(lambda params, x: right(params, x) + 0.1, module, params, (x,), output_names=["logits"])


def test_asked(crosscheck):
    assert not crosscheck.check(lambda params, x: 2 * right(params, x), module, params, (x,)).ok
"""


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    need("torch")
    folder = tmp_path_factory.mktemp("project")
    (folder / "test_port.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=out.xml", "test_port.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done, (folder / "out.xml").read_text()


def test_a_project_finds_the_fixture_without_any_set_up(session):
    done, _ = session
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 2 passed" in done.stdout
    assert "FAILED test_port.py::test_wrong" in done.stdout


def test_a_failure_prints_the_verdict_and_not_our_frames(session):
    done, _ = session
    assert "disagree: 4 quantities in float64 and float32" in done.stdout
    assert "logits [float64]; error " in done.stdout
    assert "likely cause: " in done.stdout
    assert "def require_agreement" not in done.stdout


def test_outcomes_are_counted_and_kept(session):
    done, xml = session
    assert "crosscheck: 1 agree, 2 disagree" in done.stdout
    assert xml.count('<property name="crosscheck" value="disagree" />') == 2
    assert xml.count('<property name="crosscheck" value="agree" />') == 1


WITHOUT_TORCH = """
import sys

sys.modules["torch"] = None


def test_of_something_else():
    pass


def test_that_asks(crosscheck):
    crosscheck.check(None, None, {}, ())
"""


def test_without_torch_only_the_tests_that_ask_fail_and_say_what_to_install(tmp_path):
    (tmp_path / "test_project.py").write_text(WITHOUT_TORCH)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "test_project.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    told = "crosscheck.check needs torch, which is not installed: pip install 'jax-lstm[crosscheck]'"
    assert f"ModuleNotFoundError: {told}" in done.stdout


def test_it_is_registered_and_imports_no_framework():
    code = (
        "import sys, crosscheck, crosscheck.pytest_plugin\n"
        "from importlib.metadata import entry_points\n"
        "print([e.value for e in entry_points(group='pytest11') if e.name == 'crosscheck'])\n"
        "print({'jax', 'torch', 'numpy', 'flax'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['crosscheck.pytest_plugin']\nset()\n"
