"""Series: the text is what Prometheus reads, whatever the labels hold, and numbers are as they are."""

import math
import shutil
import subprocess

import numpy as np
import pytest
from frozen import AGE_BAND, SEX, frozen, frozen_manifest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from service.monitor.counters import Counters, Explained
from service.monitor.exposition import MonitorExposition
from service.monitor.series import Axis, Column, Family, text

ROWS = Family("plumbline_rows_total", "counter", "Rows.")
SHARE = Family("plumbline_share", "gauge", "A share.")
AWKWARD = ['say "hi"', "back\\slash", "two\nlines", "grün", "日本", "", " ", "a,b", "{}", "=", "\\n", '\\"', "tab\tbed"]


def parsed(exposition):
    """[(name, labels, value)] in order."""
    return [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    ]


def column(family, *axes, fixed=(), suffix=""):
    return Column(family, fixed, axes, lambda source: source, suffix)


def test_a_series_for_each_cell_in_the_order_of_memory():
    """The last axis varies fastest, as in the table."""
    made = column(ROWS, Axis.of("group", "fm"), Axis.of("predicted", "01"), fixed=(("model_name", "m"),))
    assert len(made) == 4
    found = parsed(text([ROWS], [(made, np.array([[1, 2], [3, 4]]))]))
    assert [(labels["group"], labels["predicted"], value) for _, labels, value in found] == [
        ("f", "0", 1),
        ("f", "1", 2),
        ("m", "0", 3),
        ("m", "1", 4),
    ]
    assert {labels["model_name"] for _, labels, _ in found} == {"m"}


def test_an_axis_may_give_several_labels():
    """As bins have a name and a kind."""
    axis = Axis(("bin", "kind"), [("00 low", "bin"), ("01 other", "other")])
    found = parsed(text([SHARE], [(column(SHARE, axis), [0.25, 0.75])]))
    assert found == [
        ("plumbline_share", {"bin": "00 low", "kind": "bin"}, 0.25),
        ("plumbline_share", {"bin": "01 other", "kind": "other"}, 0.75),
    ]


@pytest.mark.parametrize("value", AWKWARD)
def test_labels_are_escaped(value):
    """Quotes, backslashes, new lines; everything else as it is."""
    found = parsed(text([SHARE], [(column(SHARE, fixed=(("bin", value),)), [1.0])]))
    assert found == [("plumbline_share", {"bin": value}, 1.0)]


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.just("\n")))
def test_any_label_reads_back(value):
    """Whatever a category is called."""
    exposition = text([SHARE], [(column(SHARE, Axis.of("bin", [value])), [1.0])])
    assert exposition.count("\n") == 3
    assert parsed(exposition) == [("plumbline_share", {"bin": value}, 1.0)]


@pytest.mark.parametrize(
    ("number", "written"),
    [(np.int64(2**53 + 1), str(2**53 + 1)), (0, "0"), (0.1, "0.1"), (1e-300, "1e-300"), (1 / 3, "0.3333333333333333")],
)
def test_numbers_are_written_with_all_their_digits(number, written):
    """And counts without a decimal point."""
    assert text([SHARE], [(column(SHARE), [number])]).splitlines()[-1] == f"plumbline_share{{}} {written}"


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_numbers_that_are_none_read_back(number):
    """They should not be there, and must not spoil the scrape."""
    ((_, _, found),) = parsed(text([SHARE], [(column(SHARE), [number])]))
    assert found == pytest.approx(number, nan_ok=True)


def test_families_without_series_are_described():
    """Before a model is loaded a dashboard finds their names."""
    exposition = text([ROWS, SHARE], [])
    assert exposition == (
        "# HELP plumbline_rows_total Rows.\n# TYPE plumbline_rows_total counter\n"
        "# HELP plumbline_share A share.\n# TYPE plumbline_share gauge\n"
    )


def test_series_of_a_family_stand_together():
    """In whatever order the columns come; Prometheus wants it so."""
    one, other = column(ROWS, fixed=(("m", "1"),)), column(SHARE, fixed=(("m", "1"),))
    exposition = text([ROWS, SHARE], [(one, [1]), (other, [0.5]), (one, [2])])
    names = [line.split("{")[0] for line in exposition.splitlines() if not line.startswith("#")]
    assert names == ["plumbline_rows_total", "plumbline_rows_total", "plumbline_share"]


def test_help_is_escaped_by_its_own_rules():
    """Backslashes and new lines; a quote needs none there."""
    family = Family("plumbline_odd", "gauge", 'Says "yes" \\ or\nno.')
    (found,) = text_string_to_metric_families(text([family], []))
    assert found.documentation == family.help


def test_a_table_of_another_size_is_a_defect():
    """Not a series under another's labels."""
    with pytest.raises(ValueError, match="zip"):
        text([ROWS], [(column(ROWS, Axis.of("group", "fm")), [1, 2, 3])])


def test_a_suffix_is_part_of_the_name():
    """Of a histogram's series."""
    family = Family("plumbline_delay", "histogram", "Delay.")
    made = column(family, Axis.of("le", ["1.0", "+Inf"]), suffix="_bucket")
    assert [name for name, _, _ in parsed(text([family], [(made, [1, 2])]))] == ["plumbline_delay_bucket"] * 2


@pytest.fixture(scope="module")
def exposition():
    """Everything that the monitor exports of one model, some of it counted."""
    counters = Counters(frozen_manifest(), frozen())
    counters.drift.add(
        np.zeros((3, 4), np.float32), np.full((3, 2), 0.5, np.float32), np.zeros(3, int), np.zeros(3, int)
    )
    counters.add_explained([Explained(counters.groups.nobody, [0.5, -1.0, 0.0, 0.25], 0.0)])
    return MonitorExposition(lambda: [counters]).text()


def test_the_drift_series_of_a_model_are_those_that_were_agreed(exposition):
    """Names, labels and where they start."""
    labels = {}
    for name, pairs, value in parsed(exposition):
        labels.setdefault(name, set()).add(frozenset(pairs))
        assert math.isfinite(value), name
    model = {"model_name", "model_version"}
    group = {*model, "sensitive_feature", "group"}
    own = {*model, "reference"}
    expected = {
        "plumbline_feature_observations_total": {*own, "feature", "bin", "kind", "cell"},
        "plumbline_score_observations_total": {*own, "class", "bin", "kind", "cell"},
        "plumbline_group_score_observations_total": {*group, "reference", "class", "bin", "kind", "cell"},
        "plumbline_calibrated_score_sum_total": {*group, "predicted"},
        "plumbline_calibrated_score_variance_sum_total": {*group, "predicted"},
        "plumbline_attribution_magnitude_sum_total": {*model, "feature"},
        "plumbline_attribution_magnitude_rows_total": model,
        "plumbline_reference_info": own,
        "plumbline_feature_reference_observations": {*own, "feature", "bin", "kind", "cell"},
        "plumbline_feature_psi_chi2_quantile": {*own, "feature"},
        "plumbline_score_reference_observations": {*own, "class", "bin", "kind", "cell"},
        "plumbline_score_psi_chi2_quantile": {*own, "class"},
        "plumbline_group_score_reference_observations": {*group, "reference", "class", "bin", "kind", "cell"},
        "plumbline_group_score_psi_chi2_quantile": {*group, "reference", "class"},
        "plumbline_input_share_z": own,
        "plumbline_attribution_reference_share": {*own, "feature"},
        "plumbline_attribution_reference_deviation": {*own, "feature"},
        "plumbline_attribution_reference_rows": own,
        "plumbline_attribution_share_z": own,
    }
    found = {name: labels[name] for name in expected}
    assert found == {name: {frozenset(pairs)} for name, pairs in expected.items()}
    assert "plumbline_score_bin_total" not in labels


def test_reference_rows_stand_beside_what_is_counted_in_the_same_bins_and_cells(exposition):
    """Those of each feature and each group add up to all of them."""
    samples = parsed(exposition)
    reference, counted = (
        {(labels["feature"], labels["bin"], labels["kind"], labels["cell"]): n for _, labels, n in samples_of}
        for samples_of in (
            [sample for sample in samples if sample[0] == f"plumbline_feature_{part}"]
            for part in ("reference_observations", "observations_total")
        )
    )
    assert reference.keys() == counted.keys()
    assert reference["amount", "01 0.5 to 10", "bin", "01"] == 300
    assert reference["amount", "00 below 0.5", "underflow", "01"] == 0
    for feature in ("amount", "hour", "abroad", "entry"):
        assert sum(n for (name, *_), n in reference.items() if name == feature) == 1000
        assert sum(n for (name, *_), n in counted.items() if name == feature) == 3


def test_cells_of_a_group_are_those_of_its_own_reference(exposition):
    """Wherever both are known; a group without reference rows has the cells of all rows."""
    cells = {}
    for name, labels, _ in parsed(exposition):
        if name.startswith("plumbline_group_score_") and "cell" in labels:
            cells.setdefault((labels["group"], labels["bin"]), set()).add(labels["cell"])
    assert all(len(found) == 1 for found in cells.values())
    assert {group for group, _ in cells} == {*SEX[1], *AGE_BAND[1], "unknown", "declined", "other"}


def test_promtool_has_no_complaint(exposition):
    """Names, types and help as Prometheus wants them."""
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed (Debian: prometheus)")
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=exposition, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
