"""The catalogue of models has every family and unique names. A name and a number always give the same problem."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import re

import jax
import numpy as np
import pytest

from crosscheck.models import catalogue
from crosscheck.models.catalogue import MISTAKES, PAIRS, by_name, draw_right, draw_wrong, require_pairs
from tests import ROOT
from tests.support.small_models import HIDDEN, KILLED, RIGHT

FOLDER = ROOT / "crosscheck" / "models"


def test_every_family_is_in_it():
    having = {path.stem for path in FOLDER.glob("*.py") if re.search(r"^(PAIRS|MISTAKES) = \(", path.read_text(), re.M)}
    families = {family.__name__.rpartition(".")[2]: family for family in catalogue._FAMILIES}
    assert len(having) > 25
    assert families.keys() >= having
    assert list(PAIRS.values()) == [pair for name in sorted(having) for pair in getattr(families[name], "PAIRS", ())]
    assert len(MISTAKES) > len(PAIRS)


def test_names_are_lower_case_with_hyphens_and_whats_are_sentences_without_an_end():
    for item in (*PAIRS.values(), *MISTAKES.values()):
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", item.name), item.name
        assert item.what[-1:] not in ("", "."), item.name


def test_a_name_that_is_given_twice_is_an_error():
    with pytest.raises(ValueError, match=r"names of pairs must differ; given twice: dense\.$"):
        by_name("pairs", (*RIGHT, RIGHT[0]))


def test_a_mistake_without_its_pair_is_an_error():
    require_pairs([KILLED, HIDDEN], by_name("pairs", RIGHT))
    with pytest.raises(ValueError, match=r"mistake 'clip-unseen' is in the pair 'clipped', which no family has\.$"):
        require_pairs([KILLED, HIDDEN], by_name("pairs", RIGHT[:1]))


def arrays(drawn):
    return [np.asarray(leaf) for leaf in jax.tree.leaves((drawn.params, drawn.inputs))]


@pytest.mark.parametrize("name", ["highway", "gae"])
def test_a_name_and_a_number_give_one_problem(name):
    one, again, other = draw_right(name, 3), draw_right(name, 3), draw_right(name, 4)
    assert all(np.array_equal(a, b) for a, b in zip(arrays(one), arrays(again), strict=True))
    shapes = [[a.shape for a in arrays(drawn)] for drawn in (one, other)]
    assert shapes[0] != shapes[1]


def test_the_numbers_do_not_change_with_the_process():
    """hash() of a string changes with the process."""
    assert draw_right("highway", 0).inputs[0].shape == (3, 8)


def test_a_mistake_is_drawn_as_its_pair():
    right, wrong = draw_right("highway", 1), draw_wrong("highway-carry", 1)
    assert all(np.array_equal(a, b) for a, b in zip(arrays(right), arrays(wrong), strict=True))
    assert right.port is not wrong.port
