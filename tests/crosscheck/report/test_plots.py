"""The drawings: no peak is dropped, uncompared steps are not drawn, shades follow errors, names do not change."""

from __future__ import annotations

from crosscheck.core.problem import Gradient
from tests.support.requirements import need

need("torch")

import re
from dataclasses import replace

import numpy as np
import pytest

from crosscheck.core.finding import Check, Kind
from crosscheck.core.slices import TIME
from crosscheck.lstm.gates import GATE
from crosscheck.report.plots import BINS, curve, heat_map, ratios, thinned
from tests.support import report_samples as samples


@pytest.mark.parametrize("seed", range(20))
def test_thinning_drops_no_peak(seed):
    rng = np.random.default_rng(seed)
    total = int(rng.integers(BINS + 1, 12_000))
    rows = samples.rows_of(
        rng.lognormal(sigma=2, size=total), rng.lognormal(sigma=2, size=total), rng.integers(0, 4, total)
    )
    kept, of = thinned(rows), np.arange(total) * BINS // total
    assert kept.size <= 2 * BINS
    assert (np.diff(kept) > 0).all()
    for n in range(BINS):
        inside = kept[of[kept] == n]
        assert ratios(rows)[inside].max() == ratios(rows)[of == n].max()
        assert rows.outcomes[inside].max() == rows.outcomes[of == n].max()


def points(svg, colour):
    """Return the lines of this colour, each [n, 2]. y points down."""
    paths = re.findall(rf'<path d="M ([^"]*?)"[^>]*style="fill: none; stroke: var\(--{colour}\)', svg)
    return [np.array(re.findall(r"-?[\d.]+", path), float).reshape(-1, 2) for path in paths]


def test_a_single_step_over_its_limit_is_seen_in_ten_thousand():
    error, limit = np.full(10_000, 1e-7), np.full(10_000, 1e-6)
    error[7_321] = 1e-2
    finding = samples.finding_of("y", "float32", TIME, samples.rows_of(error, limit))
    svg = curve([finding])
    line = points(svg, "accent")[0]  # the last one is in the legend
    top = line[np.argmin(line[:, 1])]
    assert (line[:, 1] < np.median(line[:, 1]) - 50).sum() == 1
    span = line[-1, 0] - line[0, 0]
    assert (top[0] - line[0, 0]) / span == pytest.approx(0.7321, abs=0.001)
    assert "worst 1e4 × limit at t = 7,321" in svg
    assert ">disagree<" in svg
    assert ">disagree<" not in curve(
        [samples.finding_of("y", "float32", TIME, samples.rows_of(error[:7_000], limit[:7_000]))]
    )


def test_vacuous_steps_are_marked_and_not_drawn():
    faded = samples.steps("float64", total=1_000, vacuous_until=800)
    svg = curve(faded)
    assert ">vacuous<" in svg
    assert ">inconclusive<" not in svg
    whole, part, _ = points(svg, "accent")
    assert np.ptp(part[:, 0]) == pytest.approx(0.2 * np.ptp(whole[:, 0]), rel=0.05)
    nothing = curve(
        [samples.finding_of("y", "float64", TIME, samples.rows_of(np.zeros(9), np.ones(9), np.ones(9, int)))]
    )
    assert "nothing to compare in any step" in nothing


def test_windows_are_not_called_time_steps():
    forced = [replace(f, check=Check("float64", Kind.TEACHER_FORCED, 4)) for f in samples.steps("float64", total=20)]
    assert "4-step stretch, in order" in curve(forced)
    assert "time step t" not in curve(forced)


def test_the_heat_map_darkens_with_the_error_and_frames_what_disagrees():
    ladder = 10.0 ** np.arange(-4, 4)
    findings = [
        samples.finding_of(Gradient(f"p{k}"), "float64", GATE, samples.rows_of(part, np.ones(4)))
        for k, part in enumerate((ladder[:4], ladder[4:]))
    ]
    svg = heat_map(findings)
    shades = [float(s or 1) for s in re.findall(r"fill: var\(--heat\)(?:; opacity: ([\d.]+))?", svg)][:8]
    assert shades == sorted(shades)
    assert shades[1] < shades[3] < shades[5] < shades[7]
    assert svg.count("stroke: var(--bad)") == 3
    for number in ("&lt; 0.001", ">0.1<", ">1<", ">10<", ">1000<"):
        assert number in svg
    unknown = samples.rows_of([np.nan, 1, 1, np.inf], np.ones(4), [1, 2, 0, 3])
    shown = heat_map([samples.finding_of(Gradient("p"), "float64", GATE, unknown)])
    for word in (">vacuous<", ">inconclusive<", ">∞<"):
        assert word in shown


def test_drawings_refuse_what_has_no_slices():
    (y, _), gate = samples.steps("float64"), samples.gates("float64")[0]
    with pytest.raises(ValueError, match="a curve needs findings by time or training step"):
        curve([gate])
    with pytest.raises(ValueError, match="a heat map needs findings by gate"):
        heat_map([y])
    with pytest.raises(ValueError, match="with their rows"):
        curve([replace(y, rows=None)])


def test_a_name_is_drawn_to_the_letter():
    name = "<b>$x$</b>"
    for svg in (
        heat_map(samples.gates("float64", names=[name])),
        curve([replace(samples.steps("float64")[0], quantity=name)]),
    ):
        assert "&lt;b&gt;$x$&lt;/b&gt;" in re.sub(r'aria-label="[^"]*"', "", svg)
