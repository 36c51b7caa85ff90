"""Attributions: which are trusted enough to be shown and counted."""

from dataclasses import replace

import numpy as np
import pytest

from service.api.explaining import trustworthy
from service.runtime.explainer import Attribution

# Three features, two classes.
SOUND = Attribution(
    np.array([[0.5, -1.0], [0.25, 0.0], [-2.0, 3.0]], np.float32),
    np.array([1.0, -0.5], np.float32),
    np.zeros((3, 2), np.float32),
    np.array([-0.25, 1.5], np.float32),
)


def test_values_that_add_up_to_the_margin_are_trusted():
    """And not to another one."""
    assert trustworthy(SOUND, SOUND.fx, "cpu")
    assert not trustworthy(SOUND, SOUND.fx + np.float32(1e-3), "cpu")
    assert not trustworthy(replace(SOUND, base_values=SOUND.base_values + np.float32(1e-3)), SOUND.fx, "cpu")


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("part", ["values", "base_values", "fx"])
@pytest.mark.parametrize("against", ["the served margin", "its own"])
@pytest.mark.parametrize("class_", [0, 1])
def test_what_is_not_finite_is_never_trusted(part, wrong, against, class_):
    """Neither for an answer nor, where it is held against its own margin, for a sample: sums would not recover."""
    table = getattr(SOUND, part).copy()
    table[..., class_].flat[0] = wrong
    broken = replace(SOUND, **{part: table})
    with np.errstate(invalid="ignore"):
        assert not trustworthy(broken, broken.fx if against == "its own" else SOUND.fx, "cpu")


@pytest.mark.parametrize("wrong", [np.inf, -np.inf], ids=str)
def test_infinities_that_agree_are_not_trusted_either(wrong):
    """A value and the margin it explains."""
    values, fx = SOUND.values.copy(), SOUND.fx.copy()
    values[0, 1] = fx[1] = wrong
    with np.errstate(invalid="ignore"):
        assert not trustworthy(replace(SOUND, values=values, fx=fx), fx, "cpu")
