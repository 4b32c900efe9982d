"""The pytest plugin of the installed package: a fixture ``crosscheck``.

    def test_my_port(crosscheck):
        crosscheck.assert_agree(my_port, torch_module, params, (x, (h0, c0)))

It imports neither framework before a test asks for it, so that tests also run where torch is not installed. Outcomes
are kept as user properties of the test, which pytest writes into JUnit XML; a summary line counts them.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from crosscheck.core.verdict import Verdict

_OUTCOMES: pytest.StashKey[Counter[str]] = pytest.StashKey()


class Crosscheck:
    """``check`` and ``assert_agree`` of the package, with their arguments, noting each outcome."""

    def __init__(self, node: pytest.Item):
        self._node = node

    def check(self, *arguments: Any, **options: Any) -> Verdict:
        from crosscheck import check

        verdict = check(*arguments, **options)
        outcome = str(verdict.outcome)
        self._node.user_properties.append(("crosscheck", outcome))
        self._node.config.stash.setdefault(_OUTCOMES, Counter())[outcome] += 1
        return verdict

    def assert_agree(self, *arguments: Any, **options: Any) -> Verdict:
        __tracebackhide__ = True
        from crosscheck.suite.pair import require_agreement

        return require_agreement(self.check(*arguments, **options))


@pytest.fixture
def crosscheck(request: pytest.FixtureRequest) -> Crosscheck:
    """Cross-checks a JAX function against a torch module: ``check(...)`` and ``assert_agree(...)``."""
    return Crosscheck(request.node)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    outcomes = config.stash.get(_OUTCOMES, None)
    if outcomes:
        counted = ", ".join(f"{n} {outcome}" for outcome, n in sorted(outcomes.items()))
        terminalreporter.write_line(f"crosscheck: {counted}")
