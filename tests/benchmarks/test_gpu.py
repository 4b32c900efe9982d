"""The session for a GPU, run to its end on the CPU: the check, the tables, and the commands that it prints."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import contextlib
import io
import json
import math
import os
import re
import shlex
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from benchmarks import cli, gpu, measurement
from benchmarks.implementations import KNOWN
from benchmarks.result import Result, as_content, from_content
from benchmarks.session import correctness, schedule, tables, timeline
from benchmarks.session.correctness import CANNOT_RUN, RIGHT, SMALL, WRONG, Case
from benchmarks.session.follow_up import device_slug, gpu_tests, worth_keeping
from benchmarks.session.per_step import per_step_table
from benchmarks.session.schedule import BACKEND_ROWS, COMPILED, CUDNN, SCAN, Step
from benchmarks.session.tables import NO_TIME, Session, merged
from benchmarks.shapes import GPU_TABLE
from crosscheck.report.json import read_json, write_json
from tests import ROOT
from tests.benchmarks.test_measurement import WRONG as WRONG_IMPLEMENTATIONS
from tests.benchmarks.test_results import SHAPES, row, steady
from tests.support import fake_cudnn
from tests.support.libraries import without_library

SHAPE = "5,2,3,4"
QUICK = "jax_lstm unroll=2"  # instead of implementations that compile slowly
STATEMENTS = ("jax_lstm is ", "no difference between jax_lstm ", "too few runs, ")  # as in tests/docs/test_readme.py
FEW = [Case(SHAPE, "plain", "scan"), Case(SHAPE, "plain", "cudnn")]


@pytest.fixture
def small(monkeypatch):
    """Make a session short: few cases, few implementations, two precisions, two runs."""
    make_small(monkeypatch)


def make_small(patch):
    names = ("jax_lstm", CUDNN, "torch.nn.LSTM", "flax.linen", "haiku")
    patch.setattr(timeline, "cases", lambda plain: FEW)
    patch.setattr(timeline, "PRECISIONS", ("float32", "tf32"))
    patch.setattr(schedule, "KNOWN", {name: KNOWN[name] for name in names})
    patch.setattr(schedule, "COMPILED", QUICK)
    patch.setattr(schedule, "UNROLLED", (2,))
    patch.setattr(tables, "RUNS", 2)
    without_library(patch, "haiku")


def session(*arguments, **options):
    """Run the command line. Return its exit code and what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = gpu.main([*map(str, arguments)], **options)
    return code, printed.getvalue()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Run one whole session for all tests that only look at it."""
    out = tmp_path_factory.mktemp("session")
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        code, printed = session("--out", out, "--seconds", 300, "--shape", SHAPE)
    return SimpleNamespace(out=out, code=code, printed=printed)


def test_a_session_runs_to_its_end_and_writes_each_table(whole):
    """The session runs on the CPU. It leaves out TF32 with its reason, and a library is missing."""
    assert whole.code == 0
    written = {file.stem for file in whole.out.iterdir()}
    assert written == {
        "correctness", "float32", "bfloat16", "unroll-float32", "unroll-bfloat16", "compiled-float32", "report",
    }  # fmt: skip
    assert "## tf32 at 5,2,3,4: left out: --precision tf32 is a GPU's" in whole.printed
    assert "haiku is not installed" in whole.printed
    assert "no time was left" not in whole.printed
    for table in written - {"correctness", "report"}:
        content = read_json(whole.out / f"{table}.json", "bench")
        assert content["ok"]
        assert {r["kind"] for r in content["rows"]} == {"forward", "training"}
        assert f"--shape {SHAPE} --only jax_lstm" in content["reproduce"]
    timed = {r.implementation for r in tables.read_tables(whole.out)["float32"].rows if r.seconds}
    assert timed == {"jax_lstm", SCAN, "torch.nn.LSTM", "flax.linen"}


def test_the_end_of_a_session_says_what_follows(whole):
    parts = ["One step of the loop", "## The rule between scan and cudnn", "cudnn was not timed beside scan",
             "JAX has no CUDA device here", "## What to type next"]  # fmt: skip
    places = [whole.printed.rindex(part) for part in parts]
    assert places == sorted(places)
    report = (whole.out / "report.txt").read_text()
    assert all(line in report for line in whole.printed[places[0] :].splitlines()[:-1])
    code, again = session("--out", whole.out, "--read")
    assert code == 0
    end = lambda printed: printed[printed.rindex(parts[0]) :].splitlines()
    assert end(again) == end(whole.printed)[:-2]


@pytest.mark.skipif(os.name != "posix", reason="the commands are a shell's")
def test_the_printed_commands_run(whole, tmp_path, monkeypatch):
    """The copied files can be printed and drawn, and give the paragraphs that tests/docs/test_readme.py expects."""
    _, _, last = whole.printed.partition("## What to type next")
    lines = [line for line in last.splitlines() if line and not line.startswith(("#", "took"))]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    copies = [line for line in lines if line.startswith(("DIR=", "cp "))]
    subprocess.run(["sh", "-ec", "\n".join(copies)], check=True)
    files = {path.name for path in (tmp_path / "benchmarks" / "results").iterdir()}
    assert files == {f"cpu-{table}.json" for table in tables.read_tables(whole.out)}
    report = (whole.out / "report.txt").read_text()
    quoted = dict(re.findall(r"\*\*\[([\w-]+\.json)\].*\n\n((?:>.*\n)+)", report))
    assert quoted.keys() == files
    for line in (line for line in lines if line.startswith("python -m benchmarks ")):
        arguments = shlex.split(line)[3:]
        done = CliRunner().invoke(cli.app, arguments)
        assert done.exit_code == 0, done.output
        if "--plot" in arguments:
            assert (tmp_path / arguments[-1]).read_bytes().startswith(b"\x89PNG")
            quote = quoted[arguments[1].rpartition("/")[2]]
            assert [each.removeprefix("> ") for each in quote.splitlines() if each != ">"] == [
                each for each in done.stdout.splitlines() if each.startswith(STATEMENTS)
            ]
    assert sum("--plot" in line for line in lines) == sum("--brief" in line for line in lines) == len(files)
    (tests,) = (line for line in lines if "-m gpu" in line)
    assert tests.split("-m gpu ")[1].split() == [str(path) for path in gpu_tests(ROOT)]


def test_the_files_with_tests_for_a_gpu_are_found():
    found = [path.as_posix() for path in gpu_tests(ROOT)]
    assert {"tests/crosscheck/suite/test_gpu.py", "tests/jax_lstm/test_cudnn.py"} <= set(found)
    assert all((ROOT / path).is_file() for path in found)


def test_a_wrong_lstm_stops_the_session(tmp_path, small, monkeypatch):
    """The gate order is wrong. With --go-on the tables are measured, and the exit code is the same."""
    wrong = WRONG_IMPLEMENTATIONS["gate order"]
    monkeypatch.setattr(correctness, "ours", lambda words: wrong)
    code, printed = session("--out", tmp_path, "--shape", SHAPE)
    assert code == 1
    assert "WRONG: 5,2,3,4 plain scan float32 forward: y, error" in printed
    assert "jax_lstm is WRONG on this device" in printed
    assert [file.name for file in tmp_path.iterdir()] == ["correctness.json"]
    content = json.loads((tmp_path / "correctness.json").read_text())
    assert not content["ok"]
    assert {r["outcome"] for r in content["rows"]} == {WRONG, CANNOT_RUN}
    monkeypatch.setattr(timeline, "steps", lambda first, rest: [Step("float32", "float32", SHAPE, ["jax_lstm"])])
    code, printed = session("--out", tmp_path, "--shape", SHAPE, "--go-on")
    assert code == 1
    assert (tmp_path / "float32.json").is_file()


def test_an_lstm_that_raises_is_wrong(monkeypatch):
    def fail(words):
        raise MemoryError("took\nall")

    monkeypatch.setattr(correctness, "ours", fail)
    found = correctness.check_one(FEW[0], "float32", "forward")
    assert (found.outcome, found.quantity, found.error) == (WRONG, "MemoryError: took", math.inf)


def test_a_table_in_which_ours_is_wrong_is_not_kept_and_says_so(tmp_path):
    rows = (steady("jax_lstm", 1.0), steady("torch.nn.LSTM", 1.0), row(CUDNN, differs=True, reason="computes else"))
    write_json(tmp_path / "float32.json", "bench", as_content(Result(rows, {"device": "gpu (NVIDIA H200)"})))
    code, printed = session("--out", tmp_path, "--read")
    assert code == 1
    assert f"WRONG: {CUDNN} at 10,2,3,4 training: computes else" in printed
    assert "cp " not in printed


def test_the_check_runs_every_option_on_each_backend(monkeypatch):
    """A stand-in replaces cuDNN. It refuses projections and narrow numbers with the reason, and runs all else."""
    calls = fake_cudnn.install(monkeypatch)
    found = [correctness.check_one(case, "float32", "training") for case in correctness.cases([SHAPE])]
    outcomes = {(each.feature, each.backend, each.options): each.outcome for each in found}
    assert outcomes == {
        **{(feature, backend, ""): RIGHT for feature in ("plain", "lengths", "bidirectional", "layers")
           for backend in ("scan", "cudnn")},
        ("projection", "scan", ""): RIGHT,
        ("projection", "cudnn", ""): CANNOT_RUN,
        **{(feature, "scan", options): RIGHT for feature, options in correctness.OPTIONS},
    }  # fmt: skip
    assert {each.shape for each in found} == {SHAPE, SMALL}
    assert {feature for feature, options in correctness.OPTIONS if "checkpoint_every" in options} == {
        "plain",
        "lengths",
    }
    assert len(calls) >= 4
    refused = next(each for each in found if each.outcome == CANNOT_RUN)
    assert "projection" in refused.quantity
    narrow = correctness.check_one(Case(SHAPE, "plain", "cudnn"), "bfloat16", "training")
    assert (narrow.outcome, "takes float32 only" in narrow.quantity) == (CANNOT_RUN, True)


def test_the_check_has_each_precision_and_ends_with_its_time(tmp_path, capsys):
    answers = iter([True, True, True, True, True, False])
    assert correctness.check(FEW, ("float32", "tf32", "bfloat16"), tmp_path, lambda: next(answers))
    content = json.loads((tmp_path / "correctness.json").read_text())
    assert [(r["backend"], r["precision"], r["kind"]) for r in content["rows"]] == [
        ("scan", "float32", "forward"), ("scan", "float32", "training"), ("scan", "tf32", "training"),
        ("scan", "bfloat16", "training"), ("cudnn", "float32", "forward"),
    ]  # fmt: skip
    assert (content["ok"], content["left_out"]) == (True, 3)
    assert "checks: 4 right, 0 WRONG, 1 cannot run, 3 left out for lack of time" in capsys.readouterr().out


def test_a_session_ends_with_its_time(tmp_path, small):
    """The time starts with Python, before the imports."""
    code, printed = session("--out", tmp_path, "--shape", SHAPE, "--seconds", 50, started=time.monotonic() - 60)
    assert code == 0
    _, _, left = printed.partition("no time was left for:")
    assert left.count("\n  float32 5,2,3,4") == 1
    assert left.count("\n  bfloat16 5,2,3,4") == 1
    assert {file.name for file in tmp_path.iterdir()} == {"correctness.json", "report.txt"}
    assert "-m gpu" in printed


def test_a_late_session_starts_no_implementation_and_no_long_piece(tmp_path, capsys):
    running = Session(tmp_path, time.monotonic() + 1e6, lambda what: None)
    step = Step("float32", "float32", SHAPE, ("torch.nn.LSTM", "flax.linen"))
    running._say = lambda what: setattr(running, "end", 0.0) if what.endswith("flax.linen") else None
    running.measure(step)
    torchs, flaxs = running.results["float32"].rows
    assert (bool(torchs.seconds), flaxs.reason) == (True, NO_TIME)
    assert running.left_out == [step]
    assert 0 < running._longest < 1e6
    running.end, running._longest = time.monotonic() + 100, 60.0
    running._say = lambda what: pytest.fail("two implementations of 60 s do not fit into 100 s")
    running.measure(step)
    assert running.left_out == [step, step]
    assert len(running.results["float32"].rows) == 2


def test_a_step_that_fails_stops_no_other(tmp_path, capsys, monkeypatch):
    running = Session(tmp_path, time.monotonic() + 1e6, lambda what: None)
    step = Step("float32", "float32", SHAPE, ("torch.nn.LSTM",))
    with monkeypatch.context() as patch:
        patch.setattr(measurement, "reference", lambda *_: (_ for _ in ()).throw(RuntimeError("no kernel")))
        running.measure(step)
    assert "## float32 at 5,2,3,4: failed: RuntimeError: no kernel" in capsys.readouterr().out
    running.measure(step)
    assert len(running.results["float32"].rows) == 2


def test_a_fuller_measurement_replaces_a_short_one_as_a_whole():
    short = (steady("jax_lstm", 1.0), steady("torch.nn.LSTM", 2.0), steady("jax_lstm", 5.0, shape=SHAPES[1]))
    full = (steady("jax_lstm", 3.0), steady("torch.nn.LSTM", 4.0), steady("haiku", 4.0))
    assert merged((), short[:2]) == short[:2]
    assert merged(short, full) == (short[2], *full)
    cut_off = (full[0], row("torch.nn.LSTM", reason=NO_TIME), row("haiku", reason=NO_TIME))
    assert merged(short, cut_off) == short


def test_the_steps_have_everything_and_the_most_important_first():
    rest = [str(shape) for shape in GPU_TABLE if str(shape) not in timeline.FIRST]
    planned = schedule.steps(timeline.FIRST, rest)
    assert (planned[0].table, planned[0].shape) == ("float32", timeline.FIRST[0])
    assert {name for step in planned for name in step.only} >= {*KNOWN, SCAN, CUDNN, "jax_lstm unroll=2"}
    assert set(planned[0].only) == {*KNOWN, SCAN} - {COMPILED}
    backends = [step for step in planned if set(BACKEND_ROWS) <= set(step.only)]
    early = {(step.precision, step.shape) for step in backends[: 2 * len(timeline.FIRST)]}
    assert early == {(precision, shape) for precision in ("float32", "tf32") for shape in timeline.FIRST}
    assert {step.precision for step in planned} == set(timeline.PRECISIONS)
    for precision in timeline.PRECISIONS:
        measured = {step.shape for step in planned if step.table == precision}
        assert measured == {*timeline.FIRST, *rest}
    assert [step.shape for step in planned if step.shape in rest] == [step.shape for step in planned[-3 * len(rest) :]]
    files = {step.table for step in planned} | {"correctness", "report"}
    assert len(files) <= 8, "a lent machine hands back eight files"


def test_one_step_is_the_call_divided_by_the_steps():
    rows = (
        steady("jax_lstm", 9.0),
        steady(SCAN, 2.0, memory=3 << 20),
        row(CUDNN, reason="cannot run"),
        steady("torch.nn.LSTM", 8.0, shape=SHAPES[1], memory=5 << 10),
    )
    elsewhere = (steady("torch.nn.LSTM", 1.0), steady("jax_lstm", 1.0))  # another table, without the backends
    table = per_step_table([Result(elsewhere), Result(rows), Result(elsewhere)])
    assert table.columns == (
        "precision", "T,B,D,H", "work", "scan, per step", "cudnn, per step", "torch, per step",
        "scan, memory", "cudnn, memory", "torch, memory",
    )  # fmt: skip
    assert table.rows == (
        ("float32", "10,2,3,4", "training", "200 µs", "-", "-", "3.0 MiB", "-", "-"),
        ("float32", "100,1,3,4", "training", "-", "-", "80.0 µs", "-", "-", "5.0 KiB"),
    )


def test_a_result_is_named_after_its_device_and_kept_if_it_says_something():
    ours = steady("jax_lstm", 1.0)
    results = {
        "float32": Result((ours, steady("torch.nn.LSTM", 2.0)), {"device": "gpu (NVIDIA H200)"}),
        "ours": Result((ours, steady("jax_lstm chunks", 2.0)), {"device": "gpu (NVIDIA H200)"}),
        "torchs": Result((steady("torch.nn.LSTM", 2.0),), {"device": "gpu (NVIDIA H200)"}),
    }
    assert worth_keeping(results) == {"float32": "benchmarks/results/nvidia-h200-float32"}
    assert device_slug(Result((), {"device": "gpu (NVIDIA A100-SXM4-40GB)"})) == "nvidia-a100-sxm4-40gb"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--shape", "5,2"), "must be T,B,D,H"),
        (("--read",), "--read: is of command 'train'; expected a file of 'bench'"),
    ],
)
def test_a_mistake_is_said_before_any_work(arguments, words, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(timeline, "check", lambda *_: pytest.fail("it began to work"))
    write_json(tmp_path / "other.json", "train", {})
    with pytest.raises(SystemExit) as left:
        session("--out", tmp_path, *arguments)
    assert left.value.code == 2
    assert words in capsys.readouterr().err


def test_a_session_needs_no_library_of_the_command_line():
    code = """
import sys
for name in ("typer", "click", "rich", "haiku", "equinox", "optax", "orbax", "jinja2", "safetensors", "matplotlib"):
    sys.modules[name] = None
import benchmarks.gpu
assert "jax" not in sys.modules, "the clock starts before JAX is imported"
import benchmarks.session.timeline
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_was_written_is_read_again(whole):
    read = tables.read_tables(whole.out)
    assert from_content(as_content(read["float32"])) == read["float32"]
