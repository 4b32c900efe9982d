"""The page in a real browser: phone and desktop, light and dark, from a file. The page itself has no script."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import html
import json
import re
import shutil
import subprocess

import matplotlib.image
import numpy as np
import pytest

from crosscheck.report.page import write_page
from crosscheck.report.suite_page import cases_page
from tests.support import report_samples as samples

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium; on Debian: apt-get install chromium")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-extensions", "--hide-scrollbars"),
)
PHONE, DESKTOP = (360, 800), (1280, 900)
SCHEMES = {"dark": 0, "light": 1}
MARGIN = 8  # around the frame
POLICY = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
MEASURE = """<script>
const opened = [...document.querySelectorAll("figure")].filter(f => f.checkVisibility()).map(f =>
  f.closest("details").querySelector(".name").textContent);
document.querySelectorAll("details").forEach(d => d.open = true);
const seen = c => {
  const n = c.match(/[\\d.]+/g).map(Number); return n.length > 3 && n[3] === 0 ? null : n.slice(0, 3) };
const behind = e => { for (; e; e = e.parentElement) {
  const c = seen(getComputedStyle(e).backgroundColor); if (c) return c } return [255, 255, 255] };
const texts = [...document.querySelectorAll("h1,h2,h3,p,th,td,dt,dd,pre,a,figcaption,.sign,.note,summary,svg text")];
parent.document.documentElement.dataset.measured = JSON.stringify({
  window: innerWidth,
  wide: document.documentElement.scrollWidth,
  drawings: [...document.querySelectorAll("svg")].map(s => s.getBoundingClientRect()).map(b => [b.width, b.height]),
  columns: new Set([...document.querySelectorAll("figure")].map(f => f.getBoundingClientRect().left)).size,
  letters: Math.min(...[...document.querySelectorAll("svg text")].map(t => t.getBoundingClientRect().height)),
  boxes: [...document.querySelectorAll(".scroll")].filter(b => b.scrollWidth > b.clientWidth).length,
  unreachable: [...document.querySelectorAll(".scroll")].filter(b => b.tabIndex || b.role !== "region" ||
    !b.ariaLabel).length,
  standing: Math.max(...[...document.querySelectorAll(".scroll")].filter(b => b.scrollWidth > b.clientWidth).map(b =>
    (b.querySelector("th")?.offsetWidth ?? 0) / b.clientWidth)),
  opened: opened,
  texts: texts.filter(e => e.textContent.trim()).map(e => [
    e.tagName, seen(getComputedStyle(e)[e.tagName === "text" ? "fill" : "color"]), behind(e), e.textContent.trim()]),
});
</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    content = cases_page(samples.results(), samples.ENVIRONMENT, "crosscheck --case " + "a-very-long-name" * 12)
    return write_page(content, tmp_path_factory.mktemp("report"))


@pytest.fixture
def browse(tmp_path):
    def browse(file, size, scheme, *arguments):
        look = [f"--window-size={size[0]},{size[1]}", f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}"]
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *look, *arguments, file.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return browse


def measured(browse, tmp_path, text, size, scheme, script=MEASURE):
    """Return the findings of a script that is added to the page, or None if it does not run.

    The page is in a frame, because a phone is narrower than the smallest window of a browser.
    """
    frame = tmp_path / "frame.html"
    inside = html.escape(text.replace("</body>", script + "</body>"))
    frame.write_text(
        '<!doctype html><html><head><meta charset="utf-8"><meta name="color-scheme" content="light dark"></head>'
        f'<body style="margin: {MARGIN}px">'
        f'<iframe width="{size[0]}" height="{size[1]}" style="border: 0" srcdoc="{inside}"></iframe></body></html>'
    )
    found = re.search(r'<html[^>]* data-measured="([^"]*)"', browse(frame, DESKTOP, scheme, "--dump-dom"))
    return json.loads(html.unescape(found[1])) if found else None


def luminance(colour):
    c = np.asarray(colour) / 255
    return float(np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722))


def contrast(a, b):
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(("size", "scheme", "columns"), [(PHONE, "dark", 1), (DESKTOP, "light", 2)])
def test_it_fits_the_screen_and_can_be_read(page, browse, tmp_path, size, scheme, columns):
    text = page.read_text()
    assert POLICY in text
    found = measured(browse, tmp_path, text.replace(POLICY, ""), size, scheme)
    assert found["window"] == size[0]
    assert found["wide"] <= size[0]
    assert found["columns"] == columns
    assert (found["boxes"] > 0) == (size == PHONE)  # wide content scrolls in its own box
    assert (found["standing"] or 0) < 0.5  # the first column does not move, and leaves room for the others
    assert found["unreachable"] == 0
    assert set(found["opened"]) == {"jax_lstm: y, error against t"}
    assert len(found["drawings"]) == 16
    assert min(min(box) for box in found["drawings"]) > 100
    assert max(box[0] for box in found["drawings"]) < size[0]
    assert found["letters"] >= 9
    assert len(found["texts"]) > 300
    poor = [(tag, words) for tag, ink, paper, words in found["texts"] if tag != "text" and contrast(ink, paper) < 4.5]
    assert poor == []
    axes = [
        ink for tag, ink, _, words in found["texts"] if tag == "text" and re.fullmatch(r"[\d,]+|y \(forward\)", words)
    ]
    assert len(axes) > 20
    assert min(contrast(ink, found["texts"][0][2]) for ink in axes) > 4.5


SHADE = """<script>
const all = [...document.querySelectorAll(".scroll")].filter(b => b.checkVisibility());
all[0].scrollLeft = LEFT * all[0].scrollWidth;
const box = all[0].getBoundingClientRect();
parent.document.documentElement.dataset.measured = JSON.stringify({
  wide: all[0].scrollWidth > all[0].clientWidth,
  edge: [box.right, box.bottom].map(Math.round),
});
</script>"""


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("size", "left", "expected"), [(PHONE, 0, True), (PHONE, 1, False), (DESKTOP, 0, False)], ids=str
)
def test_a_shade_says_that_a_table_goes_on_to_the_right(page, browse, tmp_path, size, left, expected, scheme):
    """The first table has a shade at its right edge if more columns follow, and none if it is scrolled to its end."""
    script = SHADE.replace("LEFT", str(left))
    found = measured(browse, tmp_path, page.read_text().replace(POLICY, ""), size, scheme, script)
    assert found["wide"] == (size == PHONE)
    shot = tmp_path / "shade.png"
    browse(tmp_path / "frame.html", DESKTOP, scheme, f"--screenshot={shot}")
    x, y = (edge + MARGIN for edge in found["edge"])
    line = matplotlib.image.imread(shot)[y - 4, x - 40 : x, :3].mean(axis=1)  # below the last row's text
    shade = abs(line[-2] - line[0])
    assert (shade > 0.15) == expected
    assert (shade < 0.01) == (not expected)


def test_the_measurement_sees_a_page_that_is_too_wide(page, browse, tmp_path):
    text = page.read_text().replace(POLICY, "").replace("overflow-x: auto", "overflow-x: visible")
    assert measured(browse, tmp_path, text, PHONE, "light")["wide"] > PHONE[0]


def test_its_own_policy_lets_no_script_run(page, browse, tmp_path):
    assert measured(browse, tmp_path, page.read_text(), PHONE, "light") is None


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_light_and_dark_differ(page, browse, tmp_path, size):
    ground = {}
    for scheme in SCHEMES:
        shot = tmp_path / f"{scheme}.png"
        browse(page, size, scheme, f"--screenshot={shot}")
        pixels = matplotlib.image.imread(shot)[..., :3]
        assert pixels.shape[:2] == size[::-1]
        ground[scheme] = float(np.median(pixels))
        assert pixels.std() > 0.05  # the sheet is not blank
    assert ground["dark"] < 0.2
    assert ground["light"] > 0.9
