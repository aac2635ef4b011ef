import math

import pytest

from brenier.transport.mongeampere import RULES, step_sizes


def test_each_rule_is_its_formula():
    assert step_sizes("constant", 0.3, 3) == [0.3, 0.3, 0.3]
    assert step_sizes("root", 0.3, 4) == [0.15] * 4
    assert step_sizes("harmonic", 0.6, 3) == pytest.approx([0.6, 0.3, 0.2])
    assert step_sizes("log", 1.0, 10) == pytest.approx([math.log(10) / 10] * 10)
    adaptive = step_sizes("adaptive", 0.2, 100)
    assert adaptive[:50] == [0.2] * 50
    assert adaptive[-1] == pytest.approx(0.2 * (0.05 + 0.95 * 0.02))
    assert adaptive == sorted(adaptive, reverse=True)


@pytest.mark.parametrize("rule", RULES)
def test_one_step_and_none(rule):
    assert len(step_sizes(rule, 1.0, 1)) == 1
    assert step_sizes(rule, 1.0, 1)[0] > 0
    assert step_sizes(rule, 1.0, 0) == []


def test_bad_rules():
    with pytest.raises(ValueError, match="no step rule 'cosine': it is one of constant"):
        step_sizes("cosine", 1.0, 3)
    for eta in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="eta must be positive"):
            step_sizes("constant", eta, 3)
