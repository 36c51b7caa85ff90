"""The dashboard Drift: what comes in, what goes out and what explains it, against the package's frozen reference."""

from k8s.monitoring.dashboards import panels, tables
from k8s.monitoring.dashboards.distributions import against_reference, distance, psi, psi_columns
from k8s.monitoring.dashboards.frame import Json, dashboard
from k8s.monitoring.dashboards.panels import COUNT, NUMBER, PERCENT, Panel
from k8s.monitoring.dashboards.states import attribution_state, share_state
from k8s.monitoring.dashboards.tables import Column
from k8s.monitoring.dashboards.variables import FEATURE as CHOSEN_FEATURE
from k8s.monitoring.dashboards.variables import GROUP as CHOSEN_GROUP
from k8s.monitoring.dashboards.variables import MODEL as CHOSEN
from k8s.monitoring.dashboards.variables import WINDOW, of
from k8s.monitoring.drift_alerts import drift_alerts
from k8s.monitoring.drift_job_alerts import drift_job_alerts
from k8s.monitoring.drift_recording import FEATURES, GROUP_SCORES, SCORES
from k8s.monitoring.promql import MODEL, increase, ratio
from service.monitor.drift import LEAST_ATTRIBUTION_CHANGE, LEAST_OBSERVATIONS, LEAST_PSI, LEAST_SHARE_INCREASE

ITS_FEATURE = f'{CHOSEN},feature="$feature"'
ITS_CLASS = f'{CHOSEN},class="$class"'
# Share: its name, its alert.
UNUSUAL = {
    "missing": ("Missing", "FeatureMissing"),
    "out_of_range": ("Out of range", "FeatureOutOfRange"),
    "unseen": ("Unseen", "FeatureUnseen"),
}
IF_ALSO = f"is drift if the PSI is above {LEAST_PSI:g} as well and n at least {LEAST_OBSERVATIONS}"


def drift() -> Json:
    """The dashboard."""
    return dashboard(
        "Drift",
        "Features, scores and attributions of a window beside the package's reference, each with n and what chance "
        "explains.",
        ("datasource", "window", "model", "version", "sensitive_feature", "group", "feature", "class"),
        ("State of ${model} ${version}, last ${window}", state()),
        ("Feature ${feature}", feature()),
        ("Values that are missing, out of range, unseen or refused", unusual()),
        ("Scores", scores()),
        ("Attributions", attributions()),
    )


def state() -> list[Panel]:
    """Which features drift."""
    return [
        tables.rows(
            "Features",
            "Sorted by how far the population stability index lies beyond what chance explains at this n: above 1 it "
            f"{IF_ALSO}, and blue means that n is too small to say.",
            {"feature": "Feature"},
            *psi_columns(FEATURES, "FeatureDrift"),
            distance(FEATURES),
            sort="PSI / critical value",
            chooses="feature",
            size=(24, 11),
        ),
        panels.lines(
            "PSI over critical value, all features",
            "When drift began: a feature above the dashed 1 differs from the reference by more than chance, and "
            f"{IF_ALSO}.",
            ("{{feature}}", psi(FEATURES, CHOSEN)["quotient"]),
            unit=NUMBER,
            limit=1,
            size=(24, 8),
        ),
        tables.alert_list(
            "What Prometheus has pending or firing about drift for this model, over every window.",
            [alert.name for alert in (*drift_alerts(WINDOW), *drift_job_alerts())],
            ("feature", "class", "sensitive_feature", "group"),
        ),
    ]


def feature() -> list[Panel]:
    """One feature from near."""
    recorded = psi(FEATURES, ITS_FEATURE)
    return [
        against_reference(
            FEATURES,
            ITS_FEATURE,
            "${feature}: current against reference",
            "The share of values in each bin now beside that of the reference: where the pairs differ is where the "
            "feature moved.",
        ),
        panels.lines(
            "${feature}: PSI and critical value",
            "It drifts while the PSI is above both the critical value, which falls as n grows, and the dashed "
            f"{LEAST_PSI:g}.",
            ("PSI", recorded["psi"]),
            ("critical value", recorded["critical"]),
            unit=NUMBER,
            limit=LEAST_PSI,
            size=(6, 10),
        ),
        panels.lines(
            "${feature}: n",
            f"Observations in the window; below the dashed {LEAST_OBSERVATIONS} nothing is said of drift.",
            ("n", recorded["n"]),
            unit=COUNT,
            limit=LEAST_OBSERVATIONS,
            size=(6, 10),
        ),
    ]


def unusual() -> list[Panel]:
    """Values that the reference hardly knows, or that the service refuses."""
    refused = of("plumbline_refused_values_total")
    columns = []
    for share, (words, alert) in UNUSUAL.items():
        columns += [
            Column(f"{words}: state", share_state(share, alert), beyond="drift"),
            Column(words, of(FEATURES.statistic(share, WINDOW)), PERCENT, 1),
            Column(f"{words} in reference", of(FEATURES.statistic(f"{share}_reference", WINDOW)), PERCENT, 1),
        ]
    return [
        tables.rows(
            "Missing, out of range and unseen values",
            f"Red is a share that exceeds the reference's by {LEAST_SHARE_INCREASE:.0%} and by more than chance "
            "explains; a cell is empty where a feature cannot have such values.",
            {"feature": "Feature"},
            *columns,
            Column("n", of(FEATURES.n(WINDOW)), COUNT, 0),
            chooses="feature",
            size=(24, 10),
        ),
        panels.lines(
            "${feature}: missing, out of range, unseen",
            "The shares over time, of those kinds that the feature can have; a jump mostly comes of a change at the "
            "caller, not of the world.",
            ("{{share}}", unusual_shares(ITS_FEATURE)),
            unit=PERCENT,
        ),
        panels.lines(
            "Refused values by reason",
            "Instances per second that were answered with 400, over all features; they never reached the model and "
            "are in no share on this page.",
            ("{{reason}}", f"sum by (reason) (rate({refused}[$__rate_interval]))"),
            unit="cps",
            size=(6, 8),
        ),
        tables.rows(
            "Refused values by feature",
            "How many instances of the window each feature had refused: the topmost is where a caller's data and the "
            "manifest disagree.",
            {"feature": "Feature"},
            Column("Refused", f"sum by (feature) (increase({refused}[{WINDOW}]))", COUNT, 0),
            sort="Refused",
            size=(6, 8),
        ),
    ]


def unusual_shares(selector: str) -> str:
    """Those of the shares that the feature has, told apart by the label `share`."""
    return "\nor\n".join(
        f'label_replace({of(FEATURES.statistic(share, WINDOW), selector)}, "share", "{words.lower()}", "", "")'
        for share, (words, _) in UNUSUAL.items()
    )


def scores() -> list[Panel]:
    """The model's probabilities, overall and by group."""
    by_class, by_group = psi(SCORES, CHOSEN), psi(GROUP_SCORES, CHOSEN_GROUP)
    return [
        against_reference(
            SCORES,
            ITS_CLASS,
            "Probability of class ${class}: current against reference",
            "The share of predictions in each bin of the probability now beside that of the reference: a shift to "
            "one side changes how many are selected.",
        ),
        tables.rows(
            "Scores by class",
            f"One row per class: a PSI beyond what chance explains at this n, above 1, {IF_ALSO}.",
            {"class": "Class"},
            *psi_columns(SCORES, "ScoreDrift"),
            distance(SCORES),
            sort="PSI / critical value",
            chooses="class",
            size=(12, 10),
        ),
        tables.rows(
            "Scores by group of ${sensitive_feature}",
            f"Scores of each group against those of the same group in the reference: above 1 it {IF_ALSO}, and drift "
            "in one group alone is a reason to look at Fairness.",
            {"group": "Group"},
            *psi_columns(GROUP_SCORES, "GroupScoreDrift", CHOSEN_FEATURE),
            sort="PSI / critical value",
            size=(12, 8),
        ),
        panels.lines(
            "PSI over critical value of scores",
            f"Above the dashed 1 scores differ from the reference by more than chance, and {IF_ALSO}.",
            ("class {{class}}", by_class["quotient"]),
            ("{{group}}", by_group["quotient"]),
            unit=NUMBER,
            limit=1,
        ),
    ]


def attributions() -> list[Panel]:
    """Which features the model leans on."""
    share, change, critical = (
        of(ratio(f"attribution_share{suffix}", WINDOW, FEATURES.level)) for suffix in ("", "_difference", "_critical")
    )
    reference = of("plumbline_attribution_reference_share")
    explained = of(increase("attribution_magnitude_rows", WINDOW, "model"))
    return [
        tables.bars(
            "Share of |SHAP|: current against reference",
            "How much of all attribution each feature takes now beside the reference, largest first: the model leans "
            "on other features than it did where the pairs differ.",
            {"feature": "Feature"},
            ("current", share),
            ("reference", reference),
            unit=PERCENT,
            sort="current",
        ),
        tables.rows(
            "Attribution drift",
            f"Red is a share that changed by more than {LEAST_ATTRIBUTION_CHANGE:.0%} and by more than chance "
            f"explains with n explained rows, blue means fewer than {LEAST_OBSERVATIONS} of them.",
            {"feature": "Feature"},
            Column("State", attribution_state(), beyond="drift"),
            Column("|Change|", f"abs({change})", PERCENT, 1),
            Column("Change", change, PERCENT, 1),
            Column("Chance explains", critical, PERCENT, 1),
            Column("n", f"{explained} * on ({MODEL}) group_right () (0 * {change} + 1)", COUNT, 0),
            sort="|Change|",
            chooses="feature",
            size=(12, 10),
        ),
        panels.lines(
            "Change of the share of |SHAP|",
            "When a feature began to weigh more (above 0) or less (below 0) than in the reference.",
            ("{{feature}}", change),
            unit=PERCENT,
            zero=False,
            size=(24, 8),
        ),
    ]
