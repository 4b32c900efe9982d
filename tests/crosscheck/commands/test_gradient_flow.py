"""``crosscheck gradient-flow``: tables, sentences, JSON, page and plots of a small study; bad options; exit codes."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import json
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

from crosscheck.commands import cli
from crosscheck.commands import gradient_flow as command
from crosscheck.report.svg import drawing
from crosscheck.studies.gradient_flow import plot as flow_plot
from crosscheck.studies.gradient_flow import study as study_module
from crosscheck.studies.gradient_flow import training
from crosscheck.studies.gradient_flow.agreement import cross_check
from crosscheck.studies.gradient_flow.sentences import study_sentences
from crosscheck.studies.gradient_flow.study import run_study
from crosscheck.studies.gradient_flow.tables import study_tables
from tests.support.legends import count_outside

SMALL = ("--length", "20", "--hidden", "4", "--seed", "3", "--train-steps", "2", "--jobs", "1")


def run(*arguments):
    return CliRunner().invoke(cli.app, ["gradient-flow", *arguments])


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Run the command once at a small size with all its files, and return the result and the study."""
    folder = tmp_path_factory.mktemp("flow")
    kept = []

    def keep(*arguments):
        kept.append(run_study(*arguments))
        return kept[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "run_study", keep)
        patch.setattr(training, "LAG", 20)
        patch.setattr(training, "HIDDEN", 4)
        patch.setattr(
            study_module,
            "TRAINED",
            (
                training.Trainee("RNN tanh", "RNN tanh", "rnn"),
                training.Trainee("LSTM, forget bias 1", "bias 1", "lstm", 1.0),
            ),
        )
        files = {"--json": folder / "x.json", "--plot": folder / "x.png", "--report": folder / "page"}
        result = run(*SMALL, *(str(word) for pair in files.items() for word in pair))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert kept, result.stderr
    return SimpleNamespace(result=result, study=kept[0], folder=folder)


def test_it_agrees_and_prints_every_table_and_sentence(done):
    assert done.result.exit_code == 0, done.result.stdout
    assert done.result.stdout.rstrip().endswith(" in float64: agree")
    shown = " ".join(done.result.stdout.split())
    for table in study_tables(done.study):
        assert table.title in shown
        for row in table.rows:
            assert " ".join(" ".join(row).split()) in shown
    for line in study_sentences(done.study):
        assert line in done.result.stdout.splitlines()


def test_every_network_is_there_in_order(done):
    names = [m.name for m in done.study.networks]
    assert names[:2] == ["RNN tanh", "RNN tanh, ‖W_hh‖ = 0.9"]
    assert [name.rpartition(" ")[2] for name in names[4:]] == ["0", "1", "3", "chrono"]
    assert [m.name for m in done.study.everything[8:]] == [
        "RNN tanh, before",
        "RNN tanh, after",
        "LSTM, forget bias 1, before",
        "LSTM, forget bias 1, after",
    ]


def test_the_json_holds_the_figures(done):
    content = json.loads((done.folder / "x.json").read_text())
    assert (content["ok"], content["verdict"]) == (True, "agree")
    assert content["reproduce"] == "crosscheck gradient-flow --length 20 --hidden 4 --train-steps 2 --seed 3"
    first = done.study.networks[0]
    shown = content["networks"][0]
    assert shown["fit"]["factor"] == first.rate.factor
    assert shown["log2_at_step_0"]["dh"] == first.logs["dh"][0]
    assert shown["step_norm"]["max"] == first.norms.max()
    assert {f["quantity"] for f in shown["findings"]} == set(first.logs)
    assert content["sentences"] == study_sentences(done.study)
    assert content["training"][1]["after"]["name"] == "LSTM, forget bias 1, after"


def test_the_page_and_the_plots_are_whole(done):
    from PIL import Image

    page = (done.folder / "page" / "index.html").read_text()
    assert page.count("<svg") == 6
    assert "RNN tanh, ‖W_hh‖ = 0.9" in page
    assert "share along c" in page
    assert "https://" not in page.replace("https://www.w3.org", "")
    for file in (done.folder / "page" / "gradient-flow.png", done.folder / "x.png"):
        with Image.open(file) as image:
            assert image.size == (1463, 836)
            grey = np.asarray(image.convert("L"))
        assert 0.02 < np.mean(grey < 200) < 0.2  # white, lines and text
    assert sorted(p.name for p in (done.folder / "page").iterdir()) == ["gradient-flow.png", "index.html"]


def test_no_legend_lies_over_curves(done, monkeypatch):
    """This is true of the single sheet, and of each panel of the page."""
    with drawing():
        assert count_outside(flow_plot.draw(done.study, flow_plot.FIXED)) == 6
    found = []
    monkeypatch.setattr(flow_plot, "inline_svg", lambda figure, label: found.append(count_outside(figure)))
    flow_plot.page_svgs(done.study)
    assert found == [1] * 6


def test_the_same_seed_gives_the_same_figures_and_another_seed_others(done):
    networks = [study_module.study_networks(20, 4, seed) for seed in (3, 3, 4)]
    weights = [n[0].params["weight_hh_l0"] for n in networks]
    np.testing.assert_array_equal(weights[0], weights[1])
    np.testing.assert_array_equal(weights[0], done.study.networks[0].w_hh)
    assert not np.any(weights[0] == weights[2])


def test_training_trains(done):
    """Each of two steps moves the weights by about Adam's rate. The sequence is the same before and after."""
    for pair in done.study.trained:
        before, after = pair.before.network, pair.after.network
        np.testing.assert_array_equal(before.x, after.x)
        moved = np.abs(after.params["weight_hh_l0"] - before.params["weight_hh_l0"])
        assert 0 < moved.max() <= 2.1 * training.RATE
        assert pair.errors[0] != pair.errors[1]


def test_the_adding_problem_is_what_it_says():
    x, target = training.adding_problem(jax.random.key(0), 64)
    flags = np.asarray(x[..., 1])
    half = training.LAG // 2
    assert set(np.unique(flags)) == {0.0, 1.0}
    np.testing.assert_array_equal(flags[:, :half].sum(1), 1)
    np.testing.assert_array_equal(flags[:, half:].sum(1), 1)
    np.testing.assert_allclose(target, np.sum(np.asarray(x[..., 0]) * flags, axis=1), rtol=1e-6)


def test_a_disagreement_exits_1_and_is_named(done, monkeypatch):
    """The same study with one number of JAX wrong by a millionth."""
    first = done.study.networks[0]
    logs = first.logs | {"product_max": first.logs["product_max"] + np.where(np.arange(21) == 7, 1e-6, 0.0)}
    wrong = replace(first, logs=logs, verdict=cross_check(first.network, logs, 1))
    spoiled = replace(done.study, networks=(wrong, *done.study.networks[1:]))
    monkeypatch.setattr(command, "run_study", lambda *arguments: spoiled)
    result = run(*SMALL)
    assert result.exit_code == 1
    assert "RNN tanh:\ndisagree: " in result.stdout
    assert "product_max [float64]; error " in result.stdout
    assert "first time step that differs: 7" in result.stdout
    assert result.stdout.rstrip().endswith("disagree")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--length", "19"), "--length must be at least 20; got 19"),
        (("--hidden", "3"), "--hidden must be at least 4; got 3"),
        (("--train-steps", "-1"), "--train-steps must be at least 0; got -1"),
        (("--train-steps", "100001"), "--train-steps must be at most 100000; got 100001"),
        (("--seed", "-1"), "--seed must be at least 0; got -1"),
        (("--jobs", "0"), "--jobs must be at least 1; got 0"),
        (("--hidden", "512"), "torch_ref forms every Jacobian, 1.0e+09 numbers, over 2.7e+08"),
        (("--plot", "x.pdf"), "--plot x.pdf: the name must end in .png"),
        (("--plot", "nowhere/x.png"), "--plot nowhere/x.png: not a file in a folder that can be written to"),
        (("--json", "nowhere/x.json"), "--json nowhere/x.json: not a file in a folder that can be written to"),
        (("--report", "pyproject.toml"), "--report pyproject.toml: not a folder that can be made and written to"),
    ],
)
def test_bad_options_are_one_line(arguments, words):
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("crosscheck: ")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_what_cannot_run_is_one_line(monkeypatch):
    def crash(*arguments):
        raise MemoryError("no room\nand more")

    monkeypatch.setattr(command, "run_study", crash)
    result = run(*SMALL)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1] == "crosscheck: MemoryError: no room"
