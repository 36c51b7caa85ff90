"""Drift reports made by hand, as `GET /v1/models/{name}/drift` answers them, for tests of the page."""

import math
from itertools import pairwise

LEAST_OBSERVATIONS = 200
QUANTILE = 27.3  # of chi-squared, 9 degrees of freedom and 30 features: near enough for a page
RATES = ("true_positive_rate", "false_positive_rate", "positive_predictive_value")


def psi(value, n, m, *, bins=10):
    return {"value": value, "critical": QUANTILE * (1 / n + 1 / m), "degrees_of_freedom": bins - 1}


def bins(counts, references, *, names, kinds=None):
    """Rows of bins; `counts` or `references` of None are hidden."""
    n, m = (sum(each or 0 for each in numbers) for numbers in (counts, references))
    return [
        {
            "bin": name,
            "kind": kind,
            "n": count,
            "share": None if count is None or n == 0 else count / n,
            "reference_n": reference,
            "reference_share": None if reference is None or m == 0 else reference / m,
        }
        for name, kind, count, reference in zip(names, kinds or ["bin"] * len(names), counts, references, strict=True)
    ]


def share(value, reference=0.01, *, state="ok"):
    return {
        "value": value,
        "reference": reference,
        "difference": value - reference,
        "critical": 0.021,
        "state": state,
    }


def distribution(made, value, n, m, *, state, kinds=1):
    """What features and scores have in common."""
    return {
        "n": n,
        "reference_n": m,
        "state": state,
        "psi": psi(value, n, m, bins=len(made)),
        "jensen_shannon": {"distance": math.sqrt(value / 8 / math.log(2)), "log_base": 2},
        "chi_squared": {
            "statistic": value / (1 / n + 1 / m),
            "degrees_of_freedom": len(made) - 1,
            "p_value": 0.34 if value < 0.1 else 1.2e-19,
        },
        "bins": made,
    }


def numeric(name, *, n=4321, m=8331, value=0.012, shift=0, state="ok", **changes):
    """A numeric feature of 13 bins: deciles, below, above and missing; `shift` moves counts upwards."""
    edges = ["0.5", "10.17", "17.9", "25.44", "33.3", "48.12", "70.9", "111.02", "260.77", "731.25", "1630.85"]
    names = ["below 0.5"] + [f"{low} to {high}" for low, high in pairwise(edges)]
    names += ["from 1630.85", "missing"]
    kinds = ["underflow"] + ["bin"] * 10 + ["overflow", "missing"]
    weights = [0.2] + [max(0.3, 9 + shift * (place - 5) + place % 3) for place in range(10)] + [0.4, 1]
    counts = [round(n * weight / sum(weights)) for weight in weights]
    references = [0] + [m // 10 - 9 + place % 4 for place in range(10)] + [30, 60]
    made = bins(counts, references, names=names, kinds=kinds)
    return {
        "feature": name,
        "kind": "numeric",
        "unit": None,
        **distribution(made, value, n, m, state=state),
        "kolmogorov_smirnov": {"statistic": 0.023 if state == "ok" else 0.212},
        "shares": {"missing": share(0.012), "out_of_range": share(0.004, 0.003)},
    } | changes


def categorical(name, categories, *, n=4321, m=8331, value=0.02, state="ok", **changes):
    """A categorical feature, the last category never seen in the reference, with other and missing ones."""
    names = [*categories, "other", "missing"]
    kinds = ["bin"] * (len(categories) - 1) + ["unseen", "other", "missing"]
    counts = [max(1, n // 2**place) for place in range(1, len(names))] + [0]
    references = [max(1, m // 2**place) for place in range(1, len(categories))] + [0, 0, 12]
    made = bins(counts, references, names=names, kinds=kinds)
    return {
        "feature": name,
        "kind": "categorical",
        "unit": None,
        **distribution(made, value, n, m, state=state),
        "kolmogorov_smirnov": None,
        "shares": {"missing": share(0.0), "unseen": share(0.031, 0.0)},
    } | changes


def binary(name, **changes):
    made = bins([2900, 1421], [5000, 3331], names=["0", "1"])
    return {
        "feature": name,
        "kind": "binary",
        "unit": None,
        **distribution(made, 0.003, 4321, 8331, state="ok"),
        "kolmogorov_smirnov": None,
        "shares": {},
    } | changes


def unknown(feature, state, *, n=None, **changes):
    """A feature or score of which nothing can be told: hidden, or without values."""
    empty = dict.fromkeys(("psi", "jensen_shannon", "chi_squared"))
    if "kolmogorov_smirnov" in feature:
        empty["kolmogorov_smirnov"] = None
    if "shares" in feature:
        empty["shares"] = {name: {"suppressed": True} for name in feature["shares"]}
    nothing = [each | {"n": n, "share": None} for each in feature["bins"]]
    return feature | empty | {"n": n, "state": state, "bins": nothing} | changes


def pooled(feature):
    """The same with its first two bins pooled, as small counts are."""
    first, second, *rest = feature["bins"]
    both = {"bin": f"{first['bin']} or {second['bin']}", "kind": "pooled"}
    both |= {key: first[key] + second[key] for key in ("n", "share", "reference_n", "reference_share")}
    return feature | {"bins": [both, *rest]}


def score(name, **changes):
    made = numeric("", **{key: changes.pop(key) for key in ("n", "shift", "value", "state") if key in changes})
    names = [f"{low / 10:g} to {low / 10 + 0.1:g}" for low in range(10)]
    inner = [each | {"bin": name} for each, name in zip(made["bins"][1:11], names, strict=True)]
    for left_out in ("feature", "kind", "unit", "kolmogorov_smirnov", "shares"):
        del made[left_out]
    return {"class": name, **made, "bins": inner} | changes


def score_group(name, n=900, *, reference_n=1500, value=0.03, state="ok"):
    known = n and reference_n and state != "suppressed"
    return {
        "group": name,
        "n": n,
        "reference_n": reference_n,
        "state": state,
        "psi": psi(value, n, reference_n) if known else None,
    }


def attributed(name, now, reference, *, state="ok", critical=0.03):
    return {
        "feature": name,
        "share": now,
        "reference_share": reference,
        "difference": None if now is None else now - reference,
        "critical": critical,
        "state": state,
    }


def performing(name, n=900, labelled=450, *, state="ok", expected=0.61, realised=0.58, calibrator="group"):
    """Expected and realised rates of a group; None where there are none."""
    rates = {}
    for place, rate in enumerate(RATES):
        spread = 0.9 / math.sqrt(n or 1)
        found = {"expected": None, "realised": None}
        if expected is not None:
            value = expected - 0.15 * place
            found["expected"] = {"value": value, "low": max(0, value - spread), "high": min(1, value + spread)}
        if realised is not None:
            value = realised - 0.15 * place
            low, high = max(0, value - 2 * spread), min(1, value + 2 * spread)
            found["realised"] = {"value": value, "numerator": 120, "denominator": 207, "low": low, "high": high}
        rates[rate] = found
    return {
        "group": name,
        "n": n,
        "labelled": labelled,
        "calibrator": calibrator,
        "state": state,
        "rates": rates,
    }


def report(*features, state="ok", **changes):
    return {
        "model_name": "diagnosis",
        "model_version": "3",
        "state": state,
        "n": 4321,
        "window": {"name": "24h", "start": "2026-11-23T16:30:00Z", "end": "2026-11-24T17:30:00+01:00"},
        "reference": {"id": "0123456789ab", "n": 8331, "data_fingerprint": "sha256:" + "7d926ad84e73380b" * 4},
        "suppression": {"enabled": True, "smallest_shown": 11},
        "limits": {
            "least_psi": 0.1,
            "least_observations": LEAST_OBSERVATIONS,
            "error": 0.01,
            "least_share_increase": 0.05,
            "least_attribution_change": 0.05,
        },
        "features": list(features),
        "scores": [],
        "group_scores": [],
        "attribution": None,
        "performance": [],
    } | changes


def ordinary():
    """30 features of every kind and state, scores, 20 groups, attribution and performance."""
    occupations = [
        "Managers, senior officials and legislators in public administration and in membership organisations",
        "Professionals",
        "Skilled agricultural, forestry and fishery workers",
        "a_category_whose_name_holds_no_space_at_all_and_goes_on_for_more_than_sixty_letters",
        "طبيب أسنان",
        "Armed forces occupations",
    ]
    features = [numeric(f"mean_measurement_{place:02}", value=0.004 + place / 1000) for place in range(23)]
    features += [
        numeric("amount", unit="EUR", value=0.412, shift=2, state="drift"),
        pooled(numeric("seconds_since_the_last_transaction_of_the_same_card", unit="s", value=0.153, state="drift")),
        numeric("creatinine", unit="mg/dL", shares={"missing": share(0.31, 0.02, state="drift")}, state="drift"),
        categorical("occupation", occupations),
        binary("card_present"),
        numeric("rarely_measured", n=61, value=0.31, state="insufficient"),
        unknown(numeric("hidden_feature"), "suppressed"),
    ]
    groups = [score_group(f"region {place}", 80 + 90 * place) for place in range(1, 18)]
    groups[4] = score_group("region 5", 640, value=0.29, state="drift")
    groups += [
        score_group("region 18", 71, state="insufficient"),
        score_group("Northern Territories and overseas departments", None, state="suppressed"),
        score_group("new", 40, reference_n=0, state="insufficient"),
    ]
    attribution = [attributed(f"mean_measurement_{place:02}", 0.03, 0.031 - place / 5000) for place in range(23)]
    attribution += [attributed("amount", 0.21, 0.08, state="drift"), attributed("card_present", 0.0, 0.03)]
    return report(
        *features,
        state="drift",
        scores=[score("1", value=0.14, shift=1, state="drift")],
        group_scores=[
            {"sensitive_feature": "region", "class": "1", "groups": groups},
            {"sensitive_feature": "sex", "class": "1", "groups": [score_group("female"), score_group("male")]},
        ],
        attribution={"n": 1234, "reference_n": 2000, "state": "drift", "features": attribution},
        performance=[
            {
                "sensitive_feature": "sex",
                "groups": [
                    performing("female"),
                    performing("male", 3100, 1800, expected=0.55, realised=0.43),
                    performing("unknown", 120, 0, state="insufficient", realised=None, calibrator="pooled"),
                    performing("declined", None, None, state="suppressed", expected=None, realised=None),
                ],
            }
        ],
    )


def nothing_known():
    """Nulls wherever the report may have them."""
    hidden = [unknown(numeric("amount"), "suppressed"), unknown(binary("card_present"), "insufficient", n=0)]
    return report(
        *hidden,
        state="insufficient",
        n=None,
        scores=[unknown(score("1"), "suppressed")],
        group_scores=[
            {
                "sensitive_feature": "sex",
                "class": "1",
                "groups": [
                    score_group("female", None, reference_n=None, state="suppressed"),
                    score_group("male", 0, state="insufficient"),
                ],
            }
        ],
        attribution={
            "n": None,
            "reference_n": 2000,
            "state": "insufficient",
            "features": [attributed("amount", None, 0.3, critical=None, state="insufficient")],
        },
        performance=[
            {
                "sensitive_feature": "sex",
                "groups": [
                    performing("female", None, None, state="suppressed", expected=None, realised=None),
                    performing("male", 0, 0, state="insufficient", expected=None, realised=None),
                ],
            }
        ],
    )
