"""Decisions of whole columns are those of single rows."""

import numpy as np
import pytest
from declared import SEX, declared
from hypothesis import given
from hypothesis import strategies as st

from service.api import codec
from service.bulk.answers import Answers

UNIT = st.floats(0, 1)


def with_threshold(threshold, positive):
    labels = ("no", "yes")
    return declared(SEX, threshold=threshold, positive_class=labels[positive], favourable_outcome=labels[positive])


def decided(manifest, probability):
    return Answers(manifest, explained=False).decide(probability).tolist(), codec.decide(
        manifest, probability
    ).predicted


@given(threshold=UNIT, others=st.lists(st.floats(0, 1, width=32)), positive=st.sampled_from([0, 1]))
def test_at_any_threshold_its_float32_neighbours_are_decided_as_one_by_one(threshold, others, positive):
    near = np.float32(threshold)
    scores = np.array([np.nextafter(near, np.float32(0)), near, np.nextafter(near, np.float32(1)), *others], np.float32)
    manifest = with_threshold(threshold, positive)
    columns = np.stack([1 - scores, scores], axis=1)
    found, expected = decided(manifest, columns[:, :: 1 if positive else -1])
    assert found == expected


@pytest.mark.parametrize("threshold", [0.1, 0.1245, 0.3])
def test_a_threshold_that_float32_rounds_is_not_moved(threshold):
    """0.1 rounds up and 0.1245 down: the float32 below the threshold is negative, however near."""
    manifest = with_threshold(threshold, 1)
    near = np.float32(threshold)
    found, _ = decided(manifest, np.array([[1 - near, near]], np.float32))
    assert found == [int(float(near) >= threshold)]
