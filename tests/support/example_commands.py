"""Runs an example's main as its command line would, within the test's process."""

from __future__ import annotations

import pytest

import examples.run
from examples.run import start


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


@pytest.fixture
def command(monkeypatch, capfd):
    """``command(main, *options)`` -> exit code, stdout, stderr; ``dies=True`` kills it after its first checkpoint."""

    def run(main, *options, dies=False):
        def die(*_):
            raise Killed

        monkeypatch.setattr("sys.argv", ["train", *map(str, options)])
        with monkeypatch.context() as patch:
            if dies:
                patch.setattr(examples.run, "_tell", die)
            with pytest.raises((SystemExit, Killed)) as raised:
                start(main)
        shown = capfd.readouterr()
        code = "killed" if raised.type is Killed else raised.value.code
        return code, shown.out, shown.err

    return run


def refused_in_one_line(found, *words):
    code, out, err = found
    assert (code, out, err.count("\n")) == (2, "", 1), found
    for word in words:
        assert word in err


def contents(folder):
    """Every file outside the checkpoints, by name."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
