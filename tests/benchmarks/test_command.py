"""``python -m benchmarks``: output, files, exit codes, errors in one line."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import dataclasses
import inspect
import json
import os
import shlex
import subprocess
import sys

import pytest
import torch
from typer.testing import CliRunner

from benchmarks import cli, command, settings
from benchmarks.implementations import KNOWN
from benchmarks.options import Options
from benchmarks.plan import Plan
from benchmarks.result import Result, Row, as_content
from benchmarks.shapes import CPU_TABLE, SWEEPS
from crosscheck.report.json import write_json
from tests import ROOT
from tests.benchmarks.test_measurement import WRONG

# Two runs per call. A call that takes longer than --seconds would get one run, which may happen on a busy machine.
SMALL = ("--shape", "6,2,3,5", "--runs", "2", "--seconds", "60")
TWO = ("--only", "jax_lstm", "--only", "torch.nn.LSTM")


def bench(*arguments):
    return CliRunner().invoke(cli.app, [*map(str, arguments)])


def test_it_measures_writes_and_draws_and_prints_it_again(tmp_path):
    file, again, plot = tmp_path / "out.json", tmp_path / "again.json", tmp_path / "out.png"
    done = bench(*SMALL, *TWO, "--only", "jax.experimental.rnn", "--json", file, "--plot", plot)
    assert done.exit_code == 0, done.output
    assert done.stdout.index("forward, float32") < done.stdout.index("training, float32")
    assert "needs an NVIDIA GPU" in done.stdout
    assert (
        done.stdout.rstrip()
        .splitlines()[-1]
        .startswith("too few runs, under 5, to compare jax_lstm with torch.nn.LSTM in 2 of 2")
    )
    assert plot.read_bytes().startswith(b"\x89PNG")
    content = json.loads(file.read_text())
    assert content["reproduce"] == (
        "python -m benchmarks --shape 6,2,3,5 --only jax_lstm --only torch.nn.LSTM --only jax.experimental.rnn "
        "--runs 2 --seconds 60.0"
    )
    assert [(r["implementation"], r["kind"]) for r in content["rows"]] == [
        (name, kind)
        for kind in ("forward", "training")
        for name in ("jax_lstm", "torch.nn.LSTM", "jax.experimental.rnn")
    ]
    timed = [r for r in content["rows"] if not r["reason"]]
    assert len(timed) == 4
    assert all(len(r["seconds"]) == 2 and 0 <= r["error"] < 1e-5 for r in timed)
    assert {"date", "device", "jax", "torch", "dm-haiku", "torch threads", "jax threads"} <= content["settings"].keys()
    assert content["settings"]["jax x64"] is False
    assert str(tmp_path) not in file.read_text()

    printed = bench("--from", file, "--json", again)
    assert (printed.exit_code, printed.stdout) == (0, done.stdout)
    assert again.read_text() == file.read_text()


VALUES = {
    "shape": ["6,2,3,5", "7,1,2,3"],
    "work": ["training", "forward"],
    "only": ["jax_lstm unroll=2", "torch.nn.LSTM"],
    "feature": ["lengths"],
    "precision": ["bfloat16"],
    "sweep": ["B"],
    "runs": ["3"],
    "seconds": ["0.25"],
    "threads": ["1"],
}
OTHER_LIBRARIES = ("flax.linen", "flax.nnx", "haiku", "equinox")
WRITES = {"from_file", "json_file", "plot", "brief", "list_implementations"}


@pytest.fixture
def planned(monkeypatch):
    """Return every plan that would have been carried out."""
    plans = []
    monkeypatch.setattr(command, "use_threads", lambda count: None)
    monkeypatch.setattr(command, "_measure", lambda plan, file: plans.append(plan) or Result(()))
    return plans


@pytest.mark.parametrize("names", [set(VALUES) - {"sweep"}, set(VALUES) - {"shape"}, *({name} for name in VALUES), {}])
def test_the_recorded_command_plans_the_same_run_again(names, planned):
    words = [word for name in VALUES if name in names for value in VALUES[name] for word in (f"--{name}", value)]
    bench(*words)
    assert shlex.split(planned[0].options.command) == ["python", "-m", "benchmarks", *words]
    bench(*shlex.split(planned[0].options.command)[3:])
    first, again = ((p.options, p.shapes, p.kinds, [c.name for c in p.implementations]) for p in planned)
    assert again == first


def test_every_option_that_decides_what_is_measured_is_recorded():
    """An option that no record has would be in neither of the tables."""
    assert inspect.signature(cli.bench).parameters.keys() == VALUES.keys() | WRITES
    defaults = {name: given.default for name, given in inspect.signature(cli.bench).parameters.items()}
    for field in dataclasses.fields(Options):
        assert (defaults[field.name] or ()) == (field.default or ())


def test_brief_prints_and_draws_only_training(tmp_path):
    """The results are those in the repository."""
    from PIL import Image

    plot = tmp_path / "brief.png"
    done = bench("--from", ROOT / "benchmarks/results/cpu-2-cores.json", "--brief", "--plot", plot)
    assert done.exit_code == 0, done.output
    header, rule, *lines = done.stdout.partition("\n\n")[0].splitlines()
    ours = ["jax_lstm, ms", "jax_lstm", "jax_lstm backend=scan"]
    columns = ["T,B,D,H", "torch.nn.LSTM, ms", *ours, *OTHER_LIBRARIES, "memory"]
    assert [cell.strip() for cell in header.strip("|").split("|")] == columns
    assert set(rule) == set("|-: ")
    assert [line.split()[1] for line in lines] == [str(shape) for shape in CPU_TABLE]
    assert "forward" not in done.stdout
    with Image.open(plot) as image:
        assert 850 <= image.width <= 950
        assert image.height < 600


def test_a_brief_result_needs_torch(tmp_path):
    file = tmp_path / "ours.json"
    rows = (Row("jax_lstm", CPU_TABLE[0], "training", "plain", "float32", seconds=(1.0,)),)
    write_json(file, "bench", as_content(Result(rows)))
    done = bench("--from", file, "--brief", "--plot", tmp_path / "out.png")
    assert done.exit_code == 2
    assert done.stderr == "benchmarks: --brief: torch.nn.LSTM was not timed in training, and its time is the unit\n"
    assert not (tmp_path / "out.png").exists()


def test_ours_being_wrong_is_exit_1_and_anothers_is_not(monkeypatch):
    wrong = WRONG["gate order"]
    monkeypatch.setitem(KNOWN, "jax_lstm", type(wrong)("jax_lstm", wrong.package, "", wrong.ready))
    done = bench(*SMALL, *TWO, "--work", "forward")
    assert done.exit_code == 1
    assert "computes something else: y is off by" in done.stdout.rstrip().splitlines()[-1]
    monkeypatch.undo()
    monkeypatch.setitem(KNOWN, "haiku", type(wrong)("haiku", "dm-haiku", "", wrong.ready))
    done = bench(*SMALL, "--only", "jax_lstm", "--only", "haiku", "--work", "forward")
    assert done.exit_code == 0
    assert "computes something else" in done.stdout


def test_ours_that_cannot_run_is_exit_2(monkeypatch):
    broken = KNOWN["jax_lstm"]
    monkeypatch.setitem(KNOWN, "jax_lstm", type(broken)("jax_lstm", "jax-lstm", "", lambda work: 1 / 0))
    done = bench(*SMALL, *TWO, "--work", "forward")
    assert done.exit_code == 2
    assert "ZeroDivisionError: division by zero" in done.stdout


def test_it_lists_implementations_and_shapes():
    done = bench("--list")
    assert done.exit_code == 0
    assert all(f"\n{name} " in "\n" + done.stdout for name in KNOWN)
    assert all(str(shape) in done.stdout for shape in CPU_TABLE)
    swept = bench("--list", "--sweep", "H", "--only", "haiku")
    assert all(str(shape) in swept.stdout for shape in SWEEPS["H"])
    assert "equinox" not in swept.stdout


FILES = {
    "text": "words",
    "deep": "[" * 100_000,
    "list": "[]",
    "old": '{"bench": 1, "ok": true, "rows": []}',
    "true": '{"schema_version": true, "command": "bench"}',
    "none yet": '{"schema_version": 0, "command": "bench"}',
    "newer": '{"schema_version": 2, "command": "bench"}',
    "train": '{"schema_version": 1, "command": "train"}',
    "empty": '{"schema_version": 1, "command": "bench"}',
}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--shape", "1,2,3"), "--shape must be T,B,D,H, four whole numbers of at least 1 such as 128,32,128,256"),
        (("--work", "backward"), "--work: unknown work 'backward'; known: forward, training"),
        (
            ("--feature", "peepholes"),
            "'peepholes' is not one of 'plain', 'lengths', 'projection', 'bidirectional'",
        ),
        (("--precision", "float8"), "'float8' is not one of 'float32', 'tf32', 'bfloat16', 'float16'"),
        (("--precision", "tf32"), "--precision tf32 is a GPU's; JAX runs on cpu here. Write --precision float32"),
        (("--sweep", "D"), "'D' is not one of 'T', 'H', 'B'"),
        (("--sweep", "T", "--shape", "1,2,3,4"), "--sweep has shapes of its own; leave --shape out"),
        (("--only", "keras"), "--only: unknown implementation 'keras'; known: jax_lstm, "),
        (("--only", "jax_lstm fast"), "--only: 'fast' is no option of jax_lstm here; write chunks, or OPTION="),
        (("--seconds", "0"), "--seconds must be over 0; got 0.0"),
        (("--seconds", "nan"), "--seconds must be over 0; got nan"),
        (("--runs", "0"), "--runs must be at least 1; got 0"),
        (("--brief", "--work", "forward"), "--brief is about training beside torch.nn.LSTM; leave --work and --only"),
        (("--brief", "--only", "jax_lstm"), "--brief is about training beside torch.nn.LSTM; leave --work and --only"),
        (("--from", "{tmp}/none.json", "--work", "training"), "--from prints an earlier run as it was measured; leave"),
        (("--threads", "0"), "--threads must be from 1 to"),
        (("--json", "{tmp}"), "not a file in a folder that can be written to"),
        (("--json", "{tmp}/none/out.json"), "not a file in a folder that can be written to"),
        (("--plot", "out.svg"), "--plot out.svg: the name must end in .png"),
        (("--plot", "{tmp}/none/out.png"), "not a file in a folder that can be written to"),
        (("--json", "x.png", "--plot", "./x.png"), "--plot x.png: that is the file of --json"),
        (("--from", "{tmp}/none.json", "--list"), "--from prints an earlier run as it was measured; leave --list out"),
        (("--from", "{tmp}/none.json"), "No such file or directory"),
        (("--from", "{tmp}/text.json"), "text.json: Expecting value"),
        (("--from", "{tmp}/deep.json"), "deep.json: is nested too deeply for a result of crosscheck"),
        (("--from", "{tmp}/list.json"), "list.json: is no result of the command 'bench': it has no schema_version"),
        (("--from", "{tmp}/old.json"), "old.json: is no result of the command 'bench': it has no schema_version"),
        (("--from", "{tmp}/true.json"), "true.json: is no result of the command 'bench': it has no schema_version"),
        (("--from", "{tmp}/none yet.json"), "none yet.json: has schema_version 0; the first one is 1"),
        (
            ("--from", "{tmp}/newer.json"),
            "newer.json: has schema_version 2, and this crosscheck reads up to 1: install a newer jax-lstm",
        ),
        (("--from", "{tmp}/train.json"), "train.json: is of command 'train'; expected a file of 'bench'"),
        (("--from", "{tmp}/empty.json"), "empty.json: is a damaged result: KeyError('rows')"),
    ],
)
def test_a_mistake_is_one_line_before_any_work(arguments, words, tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / f"{name}.json").write_text(text)
    monkeypatch.setattr(Plan, "run", lambda *_: pytest.fail("it began to work"))
    done = bench(*(text.format(tmp=tmp_path) for text in arguments))
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("benchmarks: ")
    assert words in line
    assert not done.stdout


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot confine a process to cores")
def test_threads_are_those_of_both_frameworks():
    before, torchs = os.sched_getaffinity(0), torch.get_num_threads()
    try:
        settings.use_threads(1)
        assert settings.cores() == torch.get_num_threads() == 1
        assert settings.record("float32")["jax threads"] == 1
    finally:
        os.sched_setaffinity(0, before)
        torch.set_num_threads(torchs)


def test_the_command_starts_no_device_before_it_confines_itself():
    """JAX creates its pool of threads with its device. So no import may create a device."""
    code = "import benchmarks.command; from jax._src import xla_bridge; print(xla_bridge.backends_are_initialized())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
