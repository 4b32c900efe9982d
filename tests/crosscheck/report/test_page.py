"""The page: its content, no link outside, no injected HTML, and how the file is written."""

from __future__ import annotations

from crosscheck.core.problem import Gradient
from tests.support.requirements import need

need("torch")

import platform
import re
import tomllib
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from crosscheck.commands import cli
from crosscheck.core.environment import processor
from crosscheck.core.finding import FLOAT32, Outcome, Settlement
from crosscheck.core.slices import WHOLE
from crosscheck.core.verdict import Verdict
from crosscheck.lstm.cases import CASES, RecurrentCase
from crosscheck.report.page import Fold, Page, Words, render, write_page
from crosscheck.report.suite_page import cases_page
from crosscheck.report.table import Cell, Table
from crosscheck.suite import runs as suite
from tests import ROOT
from tests.support import report_samples as samples
from tests.support import wrong_ports

VOID = {"meta", "br"}


class Reader(HTMLParser):
    """Start tags with their attributes, texts in order, table rows as tuples of texts, titles of open folds.

    A fold is open if all around it are open too.
    """

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.rows, self.open = [], [], [], []
        self.folds, self.names, self.opened = [], False, []
        self.feed(text)
        assert self.open == []  # every element is closed

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "details":
            self.folds.append("open" in dict(attributes))
        self.names = tag == "span" and dict(attributes).get("class") == "name"
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append(())
        if tag in ("td", "th"):
            self.rows[-1] += ("",)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.names = False
        if tag == "details":
            self.folds.pop()

    def handle_data(self, data):
        if self.names and all(self.folds):
            self.opened.append(data)
        if self.open and self.open[-1] != "style":
            self.texts.append(data)
        if "td" in self.open or ("th" in self.open and "tr" in self.open):
            self.rows[-1] = (*self.rows[-1][:-1], self.rows[-1][-1] + data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def page_of(results):
    return cases_page(results, samples.ENVIRONMENT, "crosscheck --case fine")


@pytest.fixture(scope="module")
def text():
    return render(page_of(samples.results()))


@pytest.fixture(scope="module")
def read(text):
    return Reader(text)


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setitem(CASES, "small", RecurrentCase("small", "for tests", 3, 9, 4, 6))
    return lambda *arguments: CliRunner().invoke(cli.app, ["--case", "small", *map(str, arguments)])


def test_the_verdict_comes_first(read):
    title, verdict = "Cross-check of jax_lstm, torch_ref", "1 not as expected, disagree"
    assert read.text.startswith(f"{title}: {verdict} {title} {verdict} ")  # <title>, then the page
    order = [read.text.index(words) for words in (verdict, "late, jax_lstm: disagree", "Cases", "time fine")]
    assert order == sorted(order)
    assert read.text.endswith("(a device with quite a long name) torch TF32 False")


def test_date_command_versions_and_machine_come_before_any_section():
    """Unknown values are left out. The date is shown in UTC for any time zone."""
    when = datetime(2024, 3, 1, 1, 30, 5, tzinfo=timezone(timedelta(hours=2)))
    known = {"python": "3.11", "machine": "Linux x86_64", "jax": "0.10.2", "processor": "a processor", "torch": "2.13"}
    page = replace(page_of(samples.results()), environment=known, date=when)
    head = Reader(render(page)).text.split(" Cases ")[0]
    assert head.endswith(
        " date 2024-02-29 23:30:05 UTC command crosscheck --case fine "
        "versions jax 0.10.2, torch 2.13, python 3.11 machine Linux x86_64, a processor"
    )
    assert "date" not in page_of(samples.results()).origin
    with pytest.raises(ValueError, match="date must have a time zone"):
        replace(page, date=datetime(2024, 3, 1))


def test_every_limit_stands_beside_its_error(read):
    for result in (r for case in samples.results() for r in case):
        for f in result.verdict.findings:
            numbers = ("", "") if f.error is None else (f"{f.error:.1e}", f"{f.limit:.1e}")
            assert any(row[:5] == (f.label, str(f.check), str(f.verdict), *numbers) for row in read.rows), f.label


def test_a_case_is_told_in_full_and_the_worst_quantity_stands_open(read):
    summaries = {row[0]: row for row in read.rows if row[0] in ("fine", "late", "faded")}
    assert [row[1] for row in summaries.values()] == ["agree", "disagree", "vacuous (expected)"]
    assert read.opened == ["late", "jax_lstm: y, error against t"]
    for words in ("a cause that was found", "crosscheck --case late", "a note on this implementation"):
        assert words in read.text
    drawings = [attributes["aria-label"] for tag, attributes in read.tags if tag == "svg"]
    assert len(drawings) == 2 * 6 + 4  # per check, two curves and a map of jax_lstm; the faded case has no gates
    assert sum("time step" in label for label in drawings) == 12


def scaled(finding, factor):
    """Return the finding with an error ``factor`` times as large, also in the slices."""
    rows = replace(finding.rows, error=finding.rows.error * factor)
    return replace(finding, error=finding.error * factor, rows=rows)


NEAR = 20.0  # a sample's error is at most 0.9/20 of its limit: so it gets nearest to its limit, but not over


@pytest.mark.parametrize(
    ("quantity", "check", "case", "title"),
    [
        ("y", "float64", 0, "jax_lstm: y, error against t"),
        (Gradient("x"), "float32", 1, "jax_lstm: grad x, error against t"),
        (Gradient("weight_ih_l1"), "float32", 1, "jax_lstm: gradients by gate"),
    ],
)
def test_of_what_agrees_the_quantity_nearest_to_its_limit_stands_open(quantity, check, case, title):
    fine = samples.results()[0]
    cases = [[replace(result, name=name) for result in fine] for name in ("first", "second")]
    moved = lambda f: scaled(f, NEAR) if (f.quantity, str(f.check)) == (quantity, check) else f
    ours = cases[case][0]
    findings = tuple(map(moved, ours.verdict.findings))
    cases[case][0] = replace(ours, verdict=replace(ours.verdict, findings=findings))
    page = page_of([*cases, samples.results()[2]])
    assert page.ok
    assert Reader(render(page)).opened == [("first", "second")[case], title]


@pytest.mark.parametrize("factors", [(10.0, 1.0), (1.0, 10.0)])
def test_of_what_disagrees_the_quantity_farthest_over_its_limit_stands_open(factors):
    """It is the worst of all that failed. A control that fades and an implementation that agrees rank behind it."""
    late = samples.results()[1]
    cases = []
    for name, factor in zip(("first", "second"), factors, strict=True):
        result = replace(late[0], name=name, implementation="torch_ref")
        findings = tuple(scaled(f, factor) if f.quantity == Gradient("x") else f for f in result.verdict.findings)
        cases.append(
            [replace(late[1], name=name, implementation="jax_lstm"), replace(result, verdict=Verdict(findings))]
        )
    worst = "first" if factors[0] > factors[1] else "second"
    page = page_of([samples.results()[2], *cases, samples.results()[0]])
    assert Reader(render(page)).opened == [worst, "torch_ref: grad x, error against t"]


def test_a_side_without_drawings_keeps_ours_open():
    ours, theirs = samples.results()[0]
    near = [scaled(f, NEAR) if f.quantity == "y" else f for f in theirs.verdict.findings]
    closer = tuple(scaled(f, 2.0) if f.quantity == Gradient("x") else f for f in ours.verdict.findings)
    pair = [replace(ours, verdict=Verdict(closer)), replace(theirs, verdict=Verdict(tuple(near)))]
    assert Reader(render(page_of([pair]))).opened == ["fine", "jax_lstm: grad x, error against t"]


def test_what_cannot_fail_is_not_the_worst():
    ours = samples.results()[0][0]
    near = lambda f: replace(scaled(f, NEAR), own_limit=True) if f.quantity == "y" else f
    closer = [scaled(f, 2.0) if f.quantity == Gradient("x") else near(f) for f in ours.verdict.findings]
    page = page_of([[replace(ours, verdict=Verdict(tuple(closer)))]])
    assert Reader(render(page)).opened == ["fine", "jax_lstm: grad x, error against t"]


def test_what_another_lane_settled_is_not_the_worst():
    """A quantity without slices has no drawing, and does not prevent another one from being open."""
    ours = samples.results()[0][0]
    whole = replace(ours.verdict.findings[0], quantity="loss", scope=WHOLE, rows=None, error=0.99, limit=1.0)
    vacuous = [
        replace(f, verdict=Outcome.VACUOUS, error=None, limit=None, settled_by=(Settlement((FLOAT32,), 1, 1),))
        if (f.quantity, str(f.check)) == (Gradient("x"), "float64")
        else scaled(f, NEAR)
        if f.quantity == "y"
        else f
        for f in ours.verdict.findings
    ]
    page = page_of([[replace(ours, verdict=replace(ours.verdict, findings=(whole, *vacuous)))]])
    assert Reader(render(page)).opened == ["fine", "jax_lstm: y, error against t"]


def test_a_side_that_failed_is_drawn_and_comes_first():
    ours, theirs = samples.results()[1]
    swapped = [[replace(theirs, implementation="jax_lstm"), replace(ours, implementation="torch_ref")]]
    read = Reader(render(page_of(swapped)))
    assert sum(tag == "svg" for tag, _ in read.tags) == 12
    assert read.text.index("torch_ref: what was found") < read.text.index("jax_lstm: what was found")


def test_a_diagnosis_is_shown_once():
    (ours, _) = samples.results()[1]
    lines = ("behaves exactly like the reference with gates in the order i g f o", "first wrong at step 3")
    told = replace(ours, verdict=replace(ours.verdict, diagnosis=lines))
    read = Reader(render(page_of([[told]])))
    for line in lines:
        assert read.text.count(line) == 1
    assert "jax_lstm: diagnosis" in read.text


def test_nothing_points_outside(text, read):
    assert "://" not in text
    assert "@import" not in text
    assert not {tag for tag, _ in read.tags} & {"script", "link", "img", "iframe", "object", "image", "base", "form"}
    assert set(re.findall(r"url\((.)", text)) <= {"#"}
    for tag, attributes in read.tags:
        assert not attributes.keys() & {"src", "srcset", "action", "data", "xlink:href"}
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("href", "#").startswith("#"), tag
    policy = [a["content"] for tag, a in read.tags if tag == "meta" and "http-equiv" in a]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_ids_are_unique_and_every_reference_finds_its_own(text, read):
    ids = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) > 20
    targets = set(re.findall(r"url\(#([^)]*)\)", text)) | {a["href"][1:] for _, a in read.tags if "href" in a}
    assert targets <= set(ids)


def test_names_cannot_smuggle_anything_in():
    name = samples.HOSTILE
    findings = samples.gates("float64", names=[name, f"grad {name} and a tail that is cut out of the middle"])
    steps = [replace(f, quantity=name, note=name) for f in samples.steps("float64")]
    drawn = samples.result(name, findings + steps, cause=name)
    page = cases_page([[drawn, replace(drawn, implementation=name)]], {name: name}, name)
    read = Reader(render(replace(page, title=name)))
    assert not {tag for tag, _ in read.tags} & {"script", "alert"}
    assert read.text.count("alert('$x$')") > 10


def test_the_same_results_give_the_same_page(text):
    assert render(page_of(samples.results())) == text


def test_other_sections_and_their_mistakes():
    table = Table("numbers", ("a", "b"), (("1", Cell("2", "bad")),))
    page = Page("t", False, "v", "s", (Fold("closed", (table, Words("said", "x\n    y = 1", code=True))),))
    read = Reader(render(page))
    assert ("1", "2") in read.rows
    assert "x\n    y = 1" in read.texts
    with pytest.raises(ValueError, match="a row of 1 for 2 columns"):
        Table("numbers", ("a", "b"), (("1",),))


def test_the_command_writes_the_same_page_twice_but_for_times(run, tmp_path):
    pages = []
    for folder in (tmp_path / "a" / "b", tmp_path):
        result = run("--report", folder)
        assert result.exit_code == 0, result.output
        assert result.stdout.rstrip().endswith(": agree")
        assert str(folder / "index.html") in result.stderr
        text = re.sub(r"\d+\.\d s", "# s", (folder / "index.html").read_text())
        dates = re.findall(r"<dd>(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC</dd>", text)
        assert len(dates) == 1
        assert abs(datetime.now(UTC) - datetime.fromisoformat(f"{dates[0]}+00:00")) < timedelta(hours=1)
        pages.append(text.replace(dates[0], ""))
    assert pages[0] == pages[1]
    for name in ("jax-lstm", "jax", "flax", "torch", "python", platform.machine(), processor()):
        assert name in pages[0].split("<main")[0]
    assert {path.name for path in tmp_path.iterdir()} == {"a", "index.html"}
    assert "crosscheck --case small" in pages[0]


def test_a_wrong_port_gets_its_page_and_exit_code_1(run, monkeypatch, tmp_path):
    monkeypatch.setitem(suite.STANDARD, "jax_lstm", wrong_ports.STANDARD["stop_gradient on h"])
    assert run("--report", tmp_path).exit_code == 1
    read = Reader((tmp_path / "index.html").read_text())
    assert "1 not as expected, disagree" in read.text
    assert ("grad weight_ih_l0", "float64", "disagree") in {row[:3] for row in read.rows}
    assert ("y", "float64", "agree") in {row[:3] for row in read.rows}


def test_an_unwritable_folder_is_refused_before_any_work(run, monkeypatch, tmp_path):
    file, taken = tmp_path / "file", tmp_path / "taken"
    file.write_text("kept")
    (taken / "index.html").mkdir(parents=True)
    loose = tmp_path / "loose"
    loose.symlink_to(tmp_path / "nowhere")
    monkeypatch.setattr("crosscheck.commands.common.run_suite", lambda *_: pytest.fail("it ran"))
    for folder in (file, file / "sub" / "sub", taken, loose):
        result = run("--report", folder)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == f"crosscheck: --report {folder}: not a folder that can be made and written to\n"
    assert file.read_text() == "kept"
    assert {path.name for path in tmp_path.iterdir()} == {"file", "taken", "loose"}


def test_a_full_disk_leaves_the_old_page_and_nothing_else(run, monkeypatch, tmp_path):
    (tmp_path / "index.html").write_text("old")

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    result = run("--report", tmp_path)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == f"crosscheck: --report {tmp_path}: No space left on device"
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert (tmp_path / "index.html").read_text() == "old"


def test_write_page_makes_the_folder_and_refuses_a_file(tmp_path):
    page = Page("t", True, "agree", "s", ())
    file = write_page(page, tmp_path / "new" / "folder")
    assert file == tmp_path / "new" / "folder" / "index.html"
    with pytest.raises(NotADirectoryError, match="a file, where a folder is needed"):
        write_page(page, file)


def test_the_installed_package_has_the_template_and_the_schema():
    root = ROOT
    shipped = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    data = [p for p in (root / "crosscheck" / "report").iterdir() if p.is_file() and p.suffix != ".py"]
    assert {path.name for path in data} == {"page.css", "page.html.j2", "schema.json"}
    for path in data:
        assert any(path.match(pattern) for pattern in shipped["crosscheck.report"])


def test_only_controls_and_a_silent_control():
    faded = samples.results()[2]
    page = page_of([faded])
    assert (page.ok, page.verdict) == (True, "vacuous, as expected")
    assert page.summary.startswith("Controls only")
    silent = [replace(samples.results()[0][0], expected=Outcome.VACUOUS)]
    page = page_of([silent])
    assert not page.ok
    assert "one did" in page.summary
    assert "agree (expected: vacuous)" in render(page)
    assert Reader(render(page_of([samples.results()[0], [replace(silent[0], name="silent")]]))).opened[0] == "silent"
    page = page_of([[faded[0], replace(silent[0], name="faded", implementation="torch_ref")]])
    assert page.sections[0].rows[0][1] == Cell("agree (expected: vacuous)", "bad")
