"""An error in one line, and implementations that run only at their own sizes."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import pytest

from crosscheck.core.errors import OnlyOwnSizes, first_line, run_at_other_sizes
from crosscheck.core.finding import CouldNotRun


def test_the_first_line_is_the_message_or_else_the_type():
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"


def test_any_error_at_other_sizes_means_that_sizes_are_written_in():
    def fails():
        raise IndexError("index 3 is out of bounds\nfor axis 0")

    with pytest.raises(OnlyOwnSizes, match=r"^index 3 is out of bounds$") as caught:
        run_at_other_sizes(fails)
    assert isinstance(caught.value, CouldNotRun)
    assert isinstance(caught.value.__cause__, IndexError)
    assert run_at_other_sizes(dict) == {}
