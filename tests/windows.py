"""Windows of counts made by hand, with the outcomes that came to them, and their drift reports."""

import json

import numpy as np
from frozen import frozen, frozen_manifest

from service.monitor.drift_counters import DriftLayout
from service.monitor.drift_report import drift_report
from service.monitor.report import fairness_report
from service.monitor.tally import tally

COUNTS = {
    "amount": [20, 100, 150, 400, 30, 300],
    "hour": [0, 300, 700, 0],
    "abroad": [860, 140],
    "entry": [590, 350, 20, 20, 20],
}
SCORED = [0, 450, 290, 260, 0]
AGES = {"18-29": 0.3, "30-49": 0.2, "50+": 0.5}
SEXES = {"female": 0.4, "male": 0.6}


class Window:
    """Counts of a window, to be changed by name, and the outcomes that came to it."""

    def __init__(self, manifest=None, reference=None):
        self.layout = DriftLayout(manifest or frozen_manifest(), reference or frozen())
        self.values = np.zeros(self.layout.size)
        self.outcomes = {}

    def feature(self, name, counts):
        names = self.layout.manifest.feature_names
        self.layout.of_feature(self.values, names.index(name))[:] = counts

    def set(self, name, counts):
        self.layout.view(self.values, name)[:] = counts

    def report(self, *, suppress):
        manifest = self.layout.manifest
        found = [
            (json.dumps(dict(groups)), predicted, actual, 8 if predicted == "yes" else 2, n, n * 0.5)
            for (groups, predicted, actual), n in self.outcomes.items()
        ]
        fairness = fairness_report(manifest, tally(manifest, found), suppress=suppress)
        return drift_report(self.layout, self.values, fairness, suppress=suppress)


def full():
    """1000 rows with everything in quantity."""
    window = Window()
    for name, counts in COUNTS.items():
        window.feature(name, counts)
    window.set("score yes", SCORED)
    for name, shares in (("sex", SEXES), ("age_band", AGES)):
        by_group = np.zeros((len(shares) + 3, 5))
        by_group[: len(shares)] = np.outer(list(shares.values()), SCORED)
        window.set(f"group score {name}", by_group)
        n = by_group.sum(axis=1)
        for part, one in (("predictions", 1.0), ("calibrated", 0.4), ("variance", 0.2)):
            window.set(f"{part} {name}", np.outer(n, [0.6 * one, 0.4 * one]))
    window.set("magnitude", [40.0, 30.0, 10.0, 20.0])
    window.set("magnitude rows", [900])
    window.outcomes = {
        ((("sex", sex), ("age_band", age)), predicted, actual): round(of_sex * of_age * share)
        for sex, of_sex in SEXES.items()
        for age, of_age in AGES.items()
        for predicted, actual, share in (("yes", "yes", 300), ("yes", "no", 200), ("no", "yes", 250), ("no", "no", 250))
    }
    return window
