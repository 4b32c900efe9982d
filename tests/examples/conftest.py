"""Fixtures of the tests of the examples."""

from __future__ import annotations

import pytest

import examples.run
from examples.run import start
from tests.support.example_commands import Killed


@pytest.fixture
def command(monkeypatch, capfd):
    """Return a function that runs an example's main function like its command line, in the process of the test.

    ``command(main, *options)`` gives exit code, stdout and stderr. ``dies=True`` kills it after its first checkpoint.
    """

    def run(main, *options, dies=False):
        def die(*_):
            raise Killed

        monkeypatch.setattr("sys.argv", ["train", *map(str, options)])
        with monkeypatch.context() as patch:
            if dies:
                patch.setattr(examples.run, "_log", die)
            with pytest.raises((SystemExit, Killed)) as raised:
                start(main)
        output = capfd.readouterr()
        code = "killed" if raised.type is Killed else raised.value.code
        return code, output.out, output.err

    return run


@pytest.fixture
def text(tmp_path):
    """Return the file of a short text that repeats itself."""
    file = tmp_path / "text"
    file.write_text("abcd abdc " * 60)
    return file
