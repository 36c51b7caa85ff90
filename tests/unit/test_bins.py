"""Bins: every value falls into one, the one that the package's reference counted it in; names that sort."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from frozen import frozen, frozen_manifest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from models.reference import bin_counts, equal_count_edges
from service.manifest import Feature, read_manifest, verify_digests
from service.monitor.bins import Table, feature_bins, score_bins, with_reference
from service.reference import FeatureReference, ScoreReference, read_reference

PACKAGES = sorted((Path(__file__).parents[2] / "models" / "repository").glob("*/*"))
NAN, INF = math.nan, math.inf


def bins_of(number, **changes):
    """Those of a feature of the reference made by hand."""
    manifest, reference = frozen_manifest(), frozen()
    return feature_bins(manifest.features[number].model_copy(update=changes), reference.features[number])


def f32(*values):
    return np.array(values, np.float32)


def next_to(value):
    """The float32 below a value, the value, and the one above it."""
    value = np.float32(value)
    return [np.nextafter(value, np.float32(-INF)), value, np.nextafter(value, np.float32(INF))]


def test_a_numeric_feature_has_bins_below_above_and_for_missing_values():
    """Each begins with its lower edge."""
    bins = bins_of(0)
    assert bins.words == ("below 0.5", "0.5 to 10", "10 to 100", "100 to 1600", "from 1600", "missing")
    assert bins.kinds == ("underflow", "bin", "bin", "bin", "overflow", "missing")
    assert bins.reference.tolist() == [0, 300, 400, 200, 0, 100]
    assert (len(bins), bins.m, bins.missing) == (6, 1000, 5)
    values = f32(-INF, -7, 0.4, 0.5, 9.99, 10, 99, 100, 1599, 1600, 1e30, INF, NAN)
    assert bins.index(values).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4, 5]


def test_an_integer_feature_that_is_never_missing_has_no_bin_for_that():
    """Below, two bins, above."""
    bins = bins_of(1)
    assert bins.kinds == ("underflow", "bin", "bin", "overflow")
    assert bins.missing is None
    assert bins.index(f32(-1, 0, 5, 6, 23, 24)).tolist() == [0, 1, 1, 2, 2, 3]
    assert bins.reference.tolist() == [0, 250, 750, 0]


def test_a_binary_feature_has_two_bins():
    """A value that cannot be falls into the nearer one."""
    bins = bins_of(2)
    assert (bins.words, bins.kinds) == (("0", "1"), ("bin", "bin"))
    assert bins.index(f32(0, 1, -INF, -1, 2, INF)).tolist() == [0, 1, 0, 0, 1, 1]


def test_a_nullable_binary_feature_has_a_third():
    """Though its reference saw no missing value."""
    bins = bins_of(2, nullable=True)
    assert bins.kinds == ("bin", "bin", "missing")
    assert bins.index(f32(0, NAN, 1)).tolist() == [0, 2, 1]
    assert bins.reference.tolist() == [900, 100, 0]


def test_a_category_that_no_reference_row_had_is_unseen_and_an_undeclared_one_is_other():
    """A category may be called missing and is not the bin of missing values."""
    bins = bins_of(3)
    assert bins.words == ("chip", "missing", "online", "other", "missing")
    assert bins.kinds == ("bin", "bin", "unseen", "other", "missing")
    assert bins.names == ("00 chip", "01 missing", "02 online", "03 other", "04 missing")
    assert bins.index(f32(0, 1, 2, 3, 99, -1, INF, -INF, NAN)).tolist() == [0, 1, 2, 3, 3, 3, 3, 3, 4]


def test_a_category_called_other_is_told_from_undeclared_ones():
    """By the kind, and by the name of the bin."""
    feature = Feature(name="c", kind="categorical", categories=["other", "missing"])
    reference = FeatureReference(
        name="c", kind="categorical", categories=["other", "missing"], counts={"bins": [5, 0], "other": 3}
    )
    bins = feature_bins(feature, reference)
    assert list(zip(bins.names, bins.kinds, strict=True)) == [
        ("00 other", "bin"),
        ("01 missing", "unseen"),
        ("02 other", "other"),
    ]
    assert bins.reference.tolist() == [5, 0, 3]
    assert bins.index(f32(0, 1, 2)).tolist() == [0, 1, 2]


def test_missing_values_of_a_feature_that_is_never_missing_still_fall_somewhere():
    """Requests cannot hold them; a count of rows must not depend on it."""
    assert bins_of(1).index(f32(NAN)).tolist() == [3]
    assert bins_of(2).index(f32(NAN)).tolist() == [1]


@pytest.mark.parametrize("many", [2, 99, 100, 150, 1200])
def test_names_are_unique_and_sort_in_the_order_of_the_bins(many):
    """As text, which is all that a dashboard sorts by."""
    names = [f"category {many - number}" for number in range(many)]
    feature = Feature(name="c", kind="categorical", categories=names)
    reference = FeatureReference(name="c", kind="categorical", categories=names, counts={"bins": [1] * many})
    bins = feature_bins(feature, reference)
    found = bins.names
    assert list(found) == sorted(found)
    assert list(bins.cells) == sorted(bins.cells)
    assert all(cell in ("rare", name.split(" ")[0]) for cell, name in zip(cells_of(bins), found, strict=True))
    assert len(set(found)) == many + 1
    assert found[0].split(" ")[0] == "0" * max(2, len(str(many)))


def test_close_edges_still_have_different_names():
    """The number tells apart what four digits do not."""
    edges = [100001.0, 100002.0, 100003.0]
    bins = score_bins(ScoreReference(**{"class": "yes"}, edges=edges, counts={"bins": [1, 1]}))
    assert len(set(bins.names)) == 4


def cells_of(bins):
    """The cell of each bin."""
    return [bins.cells[cell] for cell in bins.cell_of]


def counted(*counts):
    """The cells of bins of scores with these reference rows below, between the edges, and above."""
    edges = [float(number) for number in range(len(counts) - 1)]
    reference = {"bins": counts[1:-1], "underflow": counts[0], "overflow": counts[-1]}
    return cells_of(score_bins(ScoreReference(**{"class": "yes"}, edges=edges, counts=reference)))


@pytest.mark.parametrize(
    ("number", "cells"),
    [
        (0, ["01", "01", "02", "03", "03", "05"]),
        (1, ["01", "01", "02", "02"]),
        (2, ["00", "01"]),
        (3, ["00", "01", "rare", "rare", "rare"]),  # 20 of 1000 are missing
    ],
)
def test_values_beyond_the_edges_share_the_cell_of_the_outermost_bin_and_rare_bins_share_one(number, cells):
    """Every bin is in a cell, and every cell has a bin."""
    bins = bins_of(number)
    assert cells_of(bins) == cells
    assert bins.cells == tuple(sorted(set(cells)))


@pytest.mark.parametrize(
    ("counts", "cells"),
    [
        ((0, 100, 100, 0), ["01", "01", "02", "02"]),
        ((0, 5, 95, 0), ["01", "01", "02", "02"]),
        ((0, 4, 96, 0), ["rare", "rare", "02", "02"]),
        ((2, 3, 95, 0), ["01", "01", "02", "02"]),  # together five
        ((0, 24, 976, 0), ["rare", "rare", "02", "02"]),
        ((0, 25, 975, 0), ["01", "01", "02", "02"]),
        ((0, 2, 200, 3, 0), ["rare", "rare", "02", "rare", "rare"]),
        ((0, 2, 2, 0), ["rare"] * 4),
        ((0, 0, 0, 0), ["rare"] * 4),
        ((0, 9, 0), ["01"] * 3),  # one bin: nothing to compare
    ],
)
def test_a_bin_is_rare_below_five_rows_or_a_fortieth(counts, cells):
    """Of the reference, values beyond the edges counted with the outermost bins."""
    assert counted(*counts) == cells


def test_counts_by_cell_are_sums_over_their_bins():
    """Whole numbers, in the order of the cells."""
    bins = bins_of(0)
    found = bins.in_cells(np.array([1, 2, 30, 4, 50, 600]))
    assert (bins.cells, found.tolist()) == (("01", "02", "03", "05"), [3, 30, 54, 600])
    assert found.dtype == np.int64
    assert bins.in_cells(bins.reference).sum() == bins.m


def test_other_reference_rows_make_other_cells():
    """Those of a group: its rare bins are its own."""
    whole = score_bins(frozen().scores[0])
    group = with_reference(whole, frozen().groups["sex"]["unknown"].scores)
    assert (cells_of(whole), cells_of(group)) == (["01", "01", "02", "03", "03"], ["01", "01", "02", "rare", "rare"])
    assert group.reference.tolist() == [0, 5, 5, 0, 0]
    assert (group.words, group.kinds) == (whole.words, whole.kinds)
    assert whole.reference.tolist() == [0, 500, 300, 200, 0]


@pytest.fixture(params=PACKAGES, ids=lambda folder: folder.parent.name)
def package(request):
    """Manifest and reference of each committed package."""
    manifest = read_manifest(request.param)
    return manifest, read_reference(verify_digests(request.param, manifest), manifest)


def awkward(edges):
    """The edges, their neighbours among float32, values between and beyond."""
    beside = [value for edge in edges for value in next_to(edge)]
    between = [(low + high) / 2 for low, high in itertools.pairwise(edges)]
    return f32(*beside, *between, -3e38, 3e38, 0, -0.0, -INF, INF)


def test_bins_agree_with_those_that_training_counted_in(package):
    """At the edges and a float32 beside them, for every numeric feature and every score of the packages."""
    manifest, reference = package
    columns = [
        (part.edges, feature_bins(feature, part), feature.nullable)
        for feature, part in zip(manifest.features, reference.features, strict=True)
        if part.edges is not None
    ]
    columns += [(score.edges, score_bins(score), False) for score in reference.scores]
    for edges, bins, nullable in columns:
        values = awkward(edges)
        expected = bin_counts(values, np.array(edges)).tolist()
        found = np.bincount(bins.index(np.append(values, f32(*[NAN] * nullable))), minlength=len(bins)).tolist()
        assert found == expected + [1] * nullable


def test_the_reference_rows_of_a_package_are_all_in_its_bins(package):
    """Every row once in each feature; nothing below or above, as the edges are those of the same rows."""
    manifest, reference = package
    for feature, part in zip(manifest.features, reference.features, strict=True):
        bins = feature_bins(feature, part)
        assert bins.m == reference.n
        assert len(bins.in_cells(bins.reference)) == len(bins.cells) > 1
        assert (bins.missing is not None) == feature.nullable
        assert all(n == 0 for n, kind in zip(bins.reference, bins.kinds, strict=True) if kind.endswith("flow"))


def test_a_table_counts_a_package_row_by_row(package):
    """Replayed in any company: the sum over rows is the count of all of them."""
    manifest, reference = package
    table = Table([feature_bins(*pair) for pair in zip(manifest.features, reference.features, strict=True)])
    dice = np.random.default_rng(3)
    X = np.stack([dice.choice(awkward(part.edges or [0, 1, 2]), 50) for part in reference.features], axis=1)
    counts = table.count(X)
    assert counts.sum() == X.size
    assert (counts == sum(table.count(row[None]) for row in X)).all()


values = st.floats(width=32, allow_nan=True, allow_infinity=True) | st.sampled_from([0, 0.5, 1, 2, 6, 10, 24, 1600])
matrices = arrays.arrays(np.float32, st.tuples(st.integers(0, 20), st.just(4)), elements=values)


@settings(deadline=None)
@given(matrices)
def test_a_table_counts_as_a_plain_loop_does(X):
    """Any float32, in any place; every row in one bin of each feature."""
    manifest, reference = frozen_manifest(), frozen()
    table = Table([feature_bins(*pair) for pair in zip(manifest.features, reference.features, strict=True)])
    expected = [[0] * len(bins) for bins in table.columns]
    for row in X:
        for number, value in enumerate(row.tolist()):
            expected[number][slowly(reference.features[number], manifest.features[number], value)] += 1
    counts = table.count(X)
    assert counts.tolist() == [n for counted in expected for n in counted]
    assert counts.sum() == X.size
    for number, bins in enumerate(table.columns):
        part = counts[table.starts[number] : table.starts[number + 1]]
        assert np.bincount(bins.index(X[:, number]), minlength=len(bins)).tolist() == part.tolist()


def slowly(reference, feature, value):
    """The bin of one value, in words of the contract."""
    if feature.nullable and math.isnan(value):
        return -1
    if reference.edges is not None:
        return len(reference.edges) if math.isnan(value) else sum(edge <= value for edge in reference.edges)
    K = len(reference.categories)
    if feature.kind == "binary":
        return 0 if value < 1 else 1
    return math.floor(value) if 0 <= value < K else K


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60))
def test_edges_of_any_values_hold_all_of_them(found):
    """No bin of the rows themselves is empty, and all ascend."""
    edges = equal_count_edges(np.array(found))
    assert (np.diff(edges) > 0).all()
    assert (edges.astype(np.float32) == edges).all()
    counts = bin_counts(np.array(found), edges)
    assert counts[0] == counts[-1] == 0
    assert (counts[1:-1] > 0).all()
    assert len(counts) <= 12
