"""Keyed randomness: a draw depends on its key, and on nothing else."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import kstest

from reconfair.keyed import generator, seed_of


def test_draws_are_those_of_every_machine_and_version():
    # Written down once: were they to change, every stored result would silently belong to other noise.
    assert seed_of(0, "noise", "img-1") == 1493775344592241167
    assert generator(0, "noise", "img-1").integers(0, 1000, 5).tolist() == [669, 954, 489, 183, 701]


def test_same_key_same_draws_whatever_was_drawn_between():
    first = generator(0, "noise", "a").random(5)
    generator(0, "noise", "b").random(100)
    assert (generator(0, "noise", "a").random(5) == first).all()


def test_draws_of_a_key_begin_alike_however_many_are_taken():
    assert (generator(1, "split").random(10) == generator(1, "split").random(1000)[:10]).all()


@pytest.mark.parametrize(
    "other",
    [(1, "noise", "a"), (0, "split", "a"), (0, "noise", "b"), ("0", "noise", "a"), (0, "noisea"), ("a", "noise", 0)],
)
def test_another_key_another_seed(other):
    assert seed_of(*other) != seed_of(0, "noise", "a")


@pytest.mark.parametrize("word", [np.str_("a"), np.array(["a", "b"])[0]])
def test_text_from_an_array_is_the_same_key(word):
    assert seed_of(0, "noise", word) == seed_of(0, "noise", "a")


def test_number_from_an_array_is_the_same_key():
    assert seed_of(np.arange(3)[2], "noise") == seed_of(2, "noise")


def test_seeds_fit_in_63_bits_and_use_them():
    seeds = [seed_of(0, i) for i in range(2000)]
    assert len(set(seeds)) == 2000 and min(seeds) >= 0 and 2**62 < max(seeds) < 2**63


def test_neighbouring_keys_are_independent():
    draws = np.array([generator(0, "noise", f"img-{i}").random(2000) for i in range(21)])
    assert max(abs(np.corrcoef(a, b)[0, 1]) for a, b in pairwise(draws)) < 4.5 / np.sqrt(2000)
    assert kstest(draws[:, 0], "uniform").pvalue > 0.001  # the first draw of each key
