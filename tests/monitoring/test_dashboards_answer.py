"""What the panels show of a model whose counts are known: each has an answer, and states are those of the alerts."""

import pytest
from dashboards import EXAMPLE, NAMES, annotation_expressions, committed, expressions, panels, substitute
from exported import EVERY, exported
from promtool import expect, passes

from k8s.monitoring.render_rules import render

WINDOW = "2m"
VARIABLES = EXAMPLE | {"window": WINDOW}
AT = "4m"
RULES = [render(WINDOW, interval=EVERY, kind=kind, for_="0s") for kind in ("fairness", "drift")]
BOTH = RULES[0] + RULES[1].partition("groups:\n")[2]


def asked(folder, *expectations):
    """Evaluates the expectations where the model has been observed."""
    passes(folder, BOTH, (exported(), expectations), every=EVERY)


@pytest.mark.parametrize("name", NAMES)
def test_every_expression_has_a_finite_answer(name, tmp_path):
    """Nothing is empty, NaN or infinite: neither for a reason of matching nor of names."""
    all_finite = []
    for _, expr in expressions(committed(name)):
        put_in = substitute(expr, VARIABLES)
        all_finite.append(expect(f"count(({put_in}) > -Inf < Inf) == bool count({put_in})", [("{}", 1)], AT))
    asked(tmp_path, *all_finite)


def column(name, title, header):
    """The expression of one column of a table."""
    (panel,) = (panel for panel in panels(committed(name)) if panel["title"] == title)
    (organised,) = (step["options"] for step in panel["transformations"] if step["id"] == "organize")
    (value,) = (value for value, shown in organised["renameByName"].items() if shown == header)
    (target,) = (target for target in panel["targets"] if value.endswith(target["refId"]))
    return substitute(target["expr"], VARIABLES)


def states(expr, label, found):
    """Expects these states, and no other."""
    return expect(expr, [(f'{{{label}="{name}"}}', state) for name, state in found.items()], AT)


def test_fairness_states_are_those_of_the_alerts(tmp_path):
    """2 with a breach, else 0 with a group of too few, else 1."""
    unequal = {"sex": 1, "age_band": 2}  # 18-29 a quarter as often as 30-49, whatever 50+ is
    unknown = {"sex": 1, "age_band": 0}  # alike as far as it goes, and of 50+ nobody knows
    of_rates = {"Selection": unequal, "TPR": unequal, "FPR": unequal, "PPV": unknown, "Label coverage": unknown}
    title = "State by sensitive feature"
    asked(
        tmp_path,
        *(states(column("fairness", title, rate), "sensitive_feature", found) for rate, found in of_rates.items()),
    )


def test_drift_states_are_those_of_the_alerts(tmp_path):
    """2 with drift, 1 without; absent for features that cannot have such values."""
    unusual = "Missing, out of range and unseen values"
    asked(
        tmp_path,
        states(column("drift", "Features", "State"), "feature", {"amount": 2, "entry_mode": 1}),
        states(column("drift", unusual, "Missing: state"), "feature", {"amount": 2}),
        states(column("drift", unusual, "Out of range: state"), "feature", {"amount": 2}),
        states(column("drift", unusual, "Unseen: state"), "feature", {"entry_mode": 1}),
        states(column("drift", "Attribution drift", "State"), "feature", {"amount": 2, "entry_mode": 2}),
        states(column("drift", "Scores by class", "State"), "class", {"0": 2, "1": 2}),
    )


def test_few_observations_are_insufficient_and_none_as_well(tmp_path):
    """Neither ok nor absent, right after the start and before."""
    expr = column("drift", "Features", "State")
    few = [('{feature="amount"}', 0), ('{feature="entry_mode"}', 0)]
    asked(tmp_path, expect(expr, few, "0s"), expect(expr, few, "30s"))


def test_what_appears_is_marked_once(tmp_path):
    """A version that is there from the start is marked at the first step, not at the next."""
    for _, expr in annotation_expressions(committed("fairness")):
        put_in = substitute(expr, VARIABLES)
        asked(tmp_path, expect(f"count({put_in})", [("{}", 1)], "0s"), expect(f"count({put_in})", [], AT))
