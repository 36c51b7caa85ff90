"""The committed packages, counted by the monitor's own code: what a replica exports, and what its drift report says."""

from pathlib import Path

import exposition
import numpy as np
from promtool import constant, expect, firing, selector
from scipy.special import softmax

from service.manifest import Manifest
from service.monitor.counters import Counters, Explained
from service.monitor.drift_report import drift_report
from service.monitor.exposition import MonitorExposition
from service.monitor.monitor import Inference, count
from service.monitor.report import fairness_report
from service.monitor.tally import tally
from service.reference import Reference

PACKAGES = sorted(file.parent for file in (Path(__file__).parents[2] / "models/repository").glob("*/*/reference.json"))
ALERTS = {"missing": "FeatureMissing", "out_of_range": "FeatureOutOfRange", "unseen": "FeatureUnseen"}


def read(package):
    """The counters of a package, at 0."""
    manifest, reference = ((package / f"{name}.json").read_text(encoding="utf-8") for name in ("manifest", "reference"))
    return Counters(Manifest.model_validate_json(manifest), Reference.model_validate_json(reference))


def count_rows(counters, n, dice):
    """Have n rows of declared groups counted and explained.

    Every other feature is drawn from its reference; of the rest later bins are the likelier, beyond the range and
    missing too.
    """
    manifest, layout = counters.manifest, counters.drift.layout
    columns = [drawn(bins, n, dice, drift=place % 2) for place, bins in enumerate(layout.table.columns)]
    probability = softmax(dice.normal(size=(n, len(manifest.classes))), axis=1).astype(np.float32)
    predicted = probability.argmax(axis=1)
    groups = [
        counters.groups.of({each.name: str(dice.choice(each.groups)) for each in manifest.sensitive_features})
        for _ in range(n)
    ]
    X, scores = np.stack(columns, axis=1), probability.max(axis=1).tolist()
    count(counters, [Inference(counters, groups, predicted.tolist(), scores, X=X, probability=probability)])
    values = dice.normal(size=X.shape) * np.linspace(0, 1, X.shape[1])
    counters.add_explained([Explained(*row, margin=0.0) for row in zip(groups, values.tolist(), strict=True)])


def drawn(bins, n, dice, *, drift):
    """n values of a feature."""
    inside = (bins.edges[1:] + bins.edges[:-1]) / 2
    candidates = np.concatenate([bins.edges[:1] - 1, inside, bins.edges[-1:] + 1, [np.nan]]).astype(np.float32)
    if bins.missing is None:
        candidates = candidates[:-1]
    found = bins.index(candidates)
    weights = np.arange(1, len(found) + 1) if drift else bins.reference[found]
    return dice.choice(candidates, n, p=weights / weights.sum())


def exported(before, after):
    """The series of one replica, as it is scraped in a day: `before`, and at last `after`."""
    texts = [exposition.samples(MonitorExposition(lambda now=now: [now]).text()) for now in (before, after)]
    assert texts[0].keys() == texts[1].keys()
    for (name, labels), value in texts[1].items():
        yield {"series": selector(name, dict(labels)), "values": f"{constant(texts[0][name, labels], 3)} {value!r}"}


def report_between(before, after):
    """The drift report of what was counted between two moments."""
    fairness = fairness_report(after.manifest, tally(after.manifest, ()), suppress=False)
    return drift_report(after.drift.layout, after.drift.values - before.drift.values, fairness, suppress=False)


def reported(report):
    """(level, name, labels, value) of every number of a report that rules record as well."""
    of_reference = {"reference": report["reference"]["id"]}
    for part in report["features"]:
        labels = of_reference | {"feature": part["feature"]}
        yield from distribution("model_feature", "feature", labels, part)
        for share, found in part["shares"].items():
            for suffix, key in (("", "value"), ("_reference", "reference"), ("_critical", "critical")):
                yield "model_feature", f"feature_{share}{suffix}", labels, found[key]
    for part in report["scores"]:
        yield from distribution("model_class", "score", of_reference | {"class": part["class"]}, part)
    for of_feature in report["group_scores"]:
        for part in of_feature["groups"]:
            labels = {key: of_feature[key] for key in ("sensitive_feature", "class")} | {"group": part["group"]}
            yield from psi("model_group_class", "group_score", of_reference | labels, part["psi"])
    for part in report["attribution"]["features"]:
        for suffix, key in (("", "share"), ("_difference", "difference"), ("_critical", "critical")):
            yield "model_feature", f"attribution_share{suffix}", {"feature": part["feature"]}, part[key]
    for of_feature in report["performance"]:
        for part in of_feature["groups"]:
            labels = {"sensitive_feature": of_feature["sensitive_feature"], "group": part["group"]}
            for rate, found in part["rates"].items():
                for suffix, key in (("", "value"), ("_lower", "low"), ("_upper", "high")):
                    yield "model_group", f"expected_{rate}{suffix}", labels, found["expected"][key]


def distribution(level, name, labels, part):
    """What features and scores have in common."""
    yield from psi(level, name, labels, part["psi"])
    yield level, f"{name}_jensen_shannon_distance", labels, part["jensen_shannon"]["distance"]
    for number, found in enumerate(part["bins"]):
        of_bin = labels | {"bin": f"{number:02d} {found['bin']}", "kind": found["kind"]}
        yield f"{level}_bin", f"{name}_proportion", of_bin, found["share"]
        yield f"{level}_bin", f"{name}_reference_proportion", of_bin, found["reference_share"]


def psi(level, name, labels, found):
    """The index and its critical value."""
    yield level, f"{name}_psi", labels, found["value"]
    yield level, f"{name}_psi_critical", labels, found["critical"]


def alarms(report):
    """Expects the alerts that the states of a report call for, just raised."""
    made = {
        name: [] for name in ("FeatureDrift", "ScoreDrift", "GroupScoreDrift", "AttributionDrift", *ALERTS.values())
    }
    of_model = {key: report[key] for key in ("model_name", "model_version")}
    of_reference = of_model | {"reference": report["reference"]["id"]}

    def judge(alert, part, labels):
        made[alert] += [labels] if part["state"] == "drift" else []

    for part in report["features"]:
        labels = of_reference | {"feature": part["feature"]}
        judge("FeatureDrift", part, labels)
        for share, found in part["shares"].items():
            judge(ALERTS[share], found, labels)
    for part in report["scores"]:
        judge("ScoreDrift", part, of_reference | {"class": part["class"]})
    for of_feature in report["group_scores"]:
        labels = of_reference | {key: of_feature[key] for key in ("sensitive_feature", "class")}
        for part in of_feature["groups"]:
            judge("GroupScoreDrift", part, labels | {"group": part["group"]})
    for part in report["attribution"]["features"]:
        judge("AttributionDrift", part, of_model | {"feature": part["feature"]})
    return [firing(alert, *label_sets, state="pending") for alert, label_sets in made.items()]


def number_of(level, name, expected):
    """Expects that a recorded series has so many label sets."""
    return expect(f"count({level}:plumbline_{name}:ratio_increase1d)", [("{}", expected)])
