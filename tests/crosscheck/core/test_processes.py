"""Shared code of all commands: whole files or none, failures in one line, work in processes."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import math
import multiprocessing
import os
import re
import threading
import time
from functools import partial

import pytest
from matplotlib.figure import Figure

from crosscheck.commands.common import check_plot_file, write_json_file, writing
from crosscheck.commands.failures import Failure
from crosscheck.core.processes import WorkerEnded, run_all
from crosscheck.report.png import write_png
from jax_lstm._src.files import whole, write_whole


def drawn_halfway():
    figure = Figure()
    figure.savefig = lambda file, **_: (file.write_bytes(b"half"), 1 / 0)
    return figure


@pytest.mark.parametrize("there", [None, "before"])
def test_a_file_is_as_it_was_until_it_is_whole(there, tmp_path):
    file = tmp_path / "a.txt"
    if there is not None:
        file.write_text(there)
    with whole(file) as aside:
        aside.write_text("after")
        assert (file.read_text() if file.exists() else None) == there
    assert file.read_text() == "after"
    with pytest.raises(ZeroDivisionError):
        write_png(file, drawn_halfway)
    assert file.read_text() == "after"
    assert list(tmp_path.iterdir()) == [file]


def test_a_link_and_a_pipe_stay_what_they_are(tmp_path):
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(tmp_path / "target")
    write_whole(link, "words")
    assert link.is_symlink()
    assert (tmp_path / "target").read_text() == "words"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    write_whole(pipe, "words")
    reader.join(3)
    assert read == ["words"]
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (PermissionError(13, "Permission denied"), "--plot {tmp}: Permission denied"),
        (OSError("no device"), "--plot {tmp}: no device"),
        (MemoryError("no room\nand more"), "MemoryError: no room"),
    ],
)
def test_what_cannot_be_written_is_one_line(raised, words, tmp_path):
    with pytest.raises(Failure) as failure, writing("--plot", tmp_path):
        raise raised
    assert str(failure.value) == words.format(tmp=tmp_path)


def test_json_that_fails_at_the_end_names_its_option(tmp_path):
    write_json_file(None, "notebook", {"never": object()})
    with pytest.raises(Failure, match=f"--json {tmp_path}/none/out.json: No such file or directory$"):
        write_json_file(tmp_path / "none" / "out.json", "notebook", {})


def test_a_plot_is_a_png_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = tmp_path / "x.png"
    (tmp_path / "linked").symlink_to(tmp_path)
    check_plot_file(None)
    check_plot_file(here, tmp_path / "x.json")
    for file, beside, words in (
        (here.with_suffix(".pdf"), None, "the name must end in .png"),
        (tmp_path / "none" / "x.png", None, "not a file in a folder that can be written to"),
        (here, here.relative_to(tmp_path), "that is the file of --json"),
        (here, tmp_path / "linked" / "x.png", "that is the file of --json"),
    ):
        with pytest.raises(Failure, match=re.escape(words)):
            check_plot_file(file, beside)


def test_one_job_works_here_in_order_and_only_when_asked():
    begun = []
    pieces = {name: partial(begun.append, name) for name in "cab"}
    results = run_all(pieces, 1)
    assert next(results) == ("c", None)
    assert begun == ["c"]
    assert [name for name, _ in results] == ["a", "b"]


def test_several_jobs_give_the_same_results_under_their_names():
    found = dict(run_all({n: partial(math.factorial, n) for n in range(6)}, 2))
    assert found == {0: 1, 1: 1, 2: 2, 3: 6, 4: 24, 5: 120}
    here, *elsewhere = [dict(run_all({"pid": os.getpid}, jobs))["pid"] for jobs in (1, 2)]
    assert here == os.getpid() not in elsewhere


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_a_piece_raises_ends_it(jobs):
    with pytest.raises(ZeroDivisionError):
        dict(run_all({"bad": partial(divmod, 1, 0), "good": partial(divmod, 1, 1)}, jobs))


def test_no_worker_is_left_when_the_work_ends_early():
    before = set(multiprocessing.active_children())
    with pytest.raises(ZeroDivisionError):
        dict(run_all({"bad": partial(divmod, 1, 0), "slow": partial(time.sleep, 60)}, 2))
    results = run_all({"quick": partial(divmod, 1, 1), "slow": partial(time.sleep, 60)}, 2)
    assert next(results) == ("quick", (1, 0))
    results.close()
    end = time.monotonic() + 20
    while set(multiprocessing.active_children()) - before:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_worker_that_dies_is_named():
    with pytest.raises(WorkerEnded, match="the process that ran deadly ended with exit code 3"):
        dict(run_all({"deadly": partial(os._exit, 3), "good": partial(divmod, 1, 1)}, 2))


def test_what_cannot_be_sent_back_is_an_error():
    with pytest.raises(RuntimeError, match="cannot be sent"):
        dict(run_all({"lock": threading.Lock, "good": partial(divmod, 1, 1)}, 2))


def test_pieces_are_announced_as_they_begin():
    for jobs in (1, 2):
        begun = []
        results = run_all({name: partial(divmod, 1, 1) for name in "abc"}, jobs, begun.append)
        next(results)
        assert begun == ["a", "b", "c"][: 1 if jobs == 1 else 3]
        list(results)
        assert begun == ["a", "b", "c"]
