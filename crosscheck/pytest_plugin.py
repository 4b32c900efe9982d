"""The pytest plugin of the installed package: a fixture ``crosscheck``.

    def test_my_port(crosscheck):
        crosscheck.assert_agree(my_port, torch_module, params, (x, (h0, c0)))

It imports neither framework before a test asks for it, so that tests also run without torch. Outcomes are user
properties of the test, which pytest writes into JUnit XML. A summary line counts them.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from crosscheck.core.verdict import Verdict

_OUTCOMES: pytest.StashKey[Counter[str]] = pytest.StashKey()


class Crosscheck:
    """`crosscheck.check` and `crosscheck.assert_agree` in a test, which also record each outcome.

    The fixture `crosscheck` returns this object. Outcomes are user properties of the test, which pytest writes into
    JUnit XML. A summary line counts them.

    Args:
      node: the test that gets the outcomes.

    Examples:
      A test that takes the fixture needs no import:

      >>> def test_my_port(crosscheck):
      ...     verdict = crosscheck.check(my_port, torch_module, params, (x,))
      ...     assert verdict.ok
    """

    def __init__(self, node: pytest.Item) -> None:
        self._node = node

    def check(self, *arguments: Any, **options: Any) -> Verdict:
        """Return the verdict of `crosscheck.check`, and record its outcome.

        Args:
          *arguments: the positional arguments of `crosscheck.check`: `jax_fn`, `torch_module`, `params` and `inputs`.
          **options: the keyword arguments of `crosscheck.check`.

        Returns:
          The verdict.

        Examples:
          >>> def test_my_port(crosscheck):
          ...     assert crosscheck.check(my_port, torch_module, params, (x,))
        """
        from crosscheck import check

        verdict = check(*arguments, **options)
        outcome = str(verdict.outcome)
        self._node.user_properties.append(("crosscheck", outcome))
        self._node.config.stash.setdefault(_OUTCOMES, Counter())[outcome] += 1
        return verdict

    def assert_agree(self, *arguments: Any, **options: Any) -> Verdict:
        """Return the verdict of `crosscheck.check`, or raise AssertionError if it is not "agree". Record its outcome.

        Args:
          *arguments: the positional arguments of `crosscheck.check`: `jax_fn`, `torch_module`, `params` and `inputs`.
          **options: the keyword arguments of `crosscheck.check`.

        Returns:
          The verdict.

        Raises:
          AssertionError: the verdict is not "agree". The message is the verdict in words.

        Examples:
          >>> def test_my_port(crosscheck):
          ...     crosscheck.assert_agree(my_port, torch_module, params, (x,))
        """
        __tracebackhide__ = True
        from crosscheck.suite.pair import require_agreement

        return require_agreement(self.check(*arguments, **options))


@pytest.fixture
def crosscheck(request: pytest.FixtureRequest) -> Crosscheck:
    """Return an object with `check(...)` and `assert_agree(...)` of the package.

    Args:
      request: the test that asks for the fixture. pytest gives it.

    Returns:
      A `crosscheck.pytest_plugin.Crosscheck`, which records each outcome at the test.

    Examples:
      >>> def test_my_port(crosscheck):
      ...     crosscheck.assert_agree(my_port, torch_module, params, (x,))
    """
    return Crosscheck(request.node)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print how many verdicts had each outcome."""
    outcomes = config.stash.get(_OUTCOMES, None)
    if outcomes:
        counted = ", ".join(f"{n} {outcome}" for outcome, n in sorted(outcomes.items()))
        terminalreporter.write_line(f"crosscheck: {counted}")
