"""Streams of random numbers: what they are today they stay, since saved results stand on them."""

import numpy as np
import pytest
import torch

from brenier.core.random import generator_for, normal_like, seeds, spawned_seeds


def test_seeds_are_words_of_numpys_seed_sequence() -> None:
    assert seeds(3, count=2) == [1576890651, 2902887791]
    assert seeds(3, 5) == np.random.SeedSequence([3, 5]).generate_state(1).tolist()


def test_equal_names_give_equal_numbers_and_others_do_not() -> None:
    drawn = [torch.rand(4, generator=generator_for(*stream)).tolist() for stream in ((1, 2), (1, 2), (2, 1), (1,))]
    assert drawn[0] == drawn[1]
    assert len({tuple(row) for row in drawn}) == 3


def test_the_generators_seed_is_the_upper_63_bits_of_a_word() -> None:
    low, high = seeds(7, 0xABC, count=2)
    assert generator_for(7, 0xABC).initial_seed() == (high << 32 | low) >> 1


def test_spawned_seeds_are_those_of_a_spawned_sequence() -> None:
    child = np.random.SeedSequence(4).spawn(3)[2].spawn(2)[1]
    assert spawned_seeds(4, 2, 1, count=3) == child.generate_state(3, np.uint64).tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normal_numbers_are_the_same_in_every_dtype(dtype: torch.dtype) -> None:
    drawn = normal_like(torch.empty(3, 2, dtype=dtype), generator_for(0))
    assert drawn.dtype == dtype
    assert torch.equal(drawn, torch.randn(3, 2, generator=generator_for(0), dtype=torch.float64).to(dtype))
