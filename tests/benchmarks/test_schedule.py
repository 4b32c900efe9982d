"""The count of scheduled bundles in files that the tests write, and the committed table of the kernels."""

from __future__ import annotations

import json

import pytest
import typer

from benchmarks.accelerators import kernels
from benchmarks.accelerators.kernels import as_markdown, from_content
from benchmarks.accelerators.schedule import bundles_of_part, count_bundles, find_loops, read_bundles
from tests import ROOT

RESULTS = ROOT / "benchmarks/results/accelerators"
CONTENT = json.loads((RESULTS / "kernels.json").read_text())
KEY = "= control target key start\nLB: loop body\n= control target key end\n"
# 2 bundles before the loop; 7 in it, with the four after the branch; 1 after it. The counter goes to 12 by 4.
LOOP = """
     0   :  { %s1_s0 = smov 0 }
   0x1   :  { %9 = vsyncpa [#allocation7], 0 }
   0x2 LB: > { %s5_s13 = sphi %s1_s0, %s6_s13  ;;  %s6_s13 = sadd.s32 4, %s5_s13 }
   0x3   : > { %p7_p5 = scmp.ge.s32.totalorder %s6_s13, 12  ;;  %410 = sbr.rel (!%p7_p5) target bundleno = 2 (0x2) }
   0x4   : > {}
   0x5   : > {}
   0x6   : > {}
   0x7   : > { %s8_s2 = smov 1 }
   0x8 LE:  { %s9_s2 = smov 2 }
"""
FORWARD_BRANCH = "   0x9   :  { %12 = sbr.rel (%p3_p2) target bundleno = 14 (0xe), region = 44 }\n"
TOP = """
     0   :  { %1 = inlined_call %s38_s0, %s37_s1 /* %first = f32[8] */ }
   0x1 LB: > { %2 = inlined_call %s38_s0 /* %second = f32[8] */ ;; %4 = inlined_call %s2_s0 /* %twin.of = f32[8] */ }
   0x2   : > { %3 = sbr.rel (!%p7_p5) target bundleno = 1 (0x1) }
   0x3   : > {}
   0x4   : > {}
   0x5   : > {}
   0x6   : > {}
   0x7   :  {}
"""


@pytest.fixture
def dumped(tmp_path):
    def write(number, name, text):
        (tmp_path / f"{number}-{name}.txt").write_text(text)

    write(10, "TLP-66-packed-bundles-post-ra", KEY + TOP)
    write(11, "first-59-packed-bundles-post-ra", KEY + LOOP)
    write(12, "second-59-packed-bundles-post-ra", KEY + "     0   :  { %1 = nop }\n   0x1   :  {}\n")
    write(13, "second-58-packed-bundles", KEY + LOOP)
    write(14, "TLP-00-deduplication-map", "key:second\nordinal:2\nequivalent_hlos[size=2]:\n  second\n  twin.of\n")
    return tmp_path


def test_a_loop_counts_as_often_as_it_runs():
    bundles = read_bundles(KEY + LOOP + FORWARD_BRANCH)
    assert len(bundles) == 10
    assert [(span.first, span.last) for span in find_loops(bundles)] == [(2, 7)]
    assert bundles_of_part(bundles) == 4 + 3 * 6


def test_the_loop_over_the_blocks_of_a_kernel_runs_two_more_times_than_there_are_blocks():
    text = LOOP.replace("sadd.s32 4", "sadd.s32 1").replace(
        "%s1_s0, %s6_s13", "%s1_s0, %s6_s13 /* iteration index, stage = 1 */"
    )
    assert bundles_of_part(read_bundles(text)) == 3 + 10 * 6


def test_a_loop_whose_limit_is_unknown_counts_once():
    assert bundles_of_part(read_bundles(LOOP.replace("%s6_s13, 12", "%s6_s13, %s2_s4"))) == 9


def test_the_parts_of_a_program_are_added_up(dumped):
    """The loop at the top runs 5 times. It calls a part of 2 bundles twice: by its name, and by another part's name."""
    assert count_bundles(dumped, [5]) == (2 + 21) + 5 * (6 + 2 * 2)


def test_what_does_not_fit_is_an_error(dumped):
    with pytest.raises(ValueError, match="must have 2 loops, as the program's text; got 1"):
        count_bundles(dumped, [5, 3])
    (dumped / "11-first-59-packed-bundles-post-ra.txt").unlink()
    with pytest.raises(ValueError, match="no part first, which the top level calls"):
        count_bundles(dumped, [5])
    (dumped / "10-TLP-66-packed-bundles-post-ra.txt").unlink()
    with pytest.raises(ValueError, match=r"no top level, TLP, to .*; it dumped 1 other parts"):
        count_bundles(dumped, [5])


def test_a_shape_that_the_kernels_cannot_run_is_refused_before_any_compilation(monkeypatch):
    monkeypatch.setattr("benchmarks.accelerators.choices.missing", lambda target: "")
    with pytest.raises(typer.BadParameter, match=r"--shape 9,8,4096,4096: .* needs \d+ MiB of vector memory"):
        kernels.main(shape=["9,8,128,128", "9,8,4096,4096"])


def test_the_committed_pages_are_one_result():
    assert (RESULTS / "kernels.md").read_text() == as_markdown(CONTENT)


@pytest.mark.parametrize("row", from_content(CONTENT), ids=lambda row: f"{row.target} {row.kind} {row.shape}")
def test_the_kernels_issue_fewer_bundles_than_scan(row):
    assert row.pallas.bundles < row.scan.bundles
