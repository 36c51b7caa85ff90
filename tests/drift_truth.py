"""What the drift counts and the drift report should say, from the rows that were sent: by numpy and scipy alone.

Reads the package's files as JSON, not through the service's own classes.
"""

import hashlib
import json

import numpy as np
from scipy import stats
from scipy.spatial.distance import jensenshannon

ERROR = 0.005
SHARES = {"missing": ("missing",), "out_of_range": ("underflow", "overflow"), "unseen": ("unseen", "other")}


class Package:
    """A package's manifest and reference, and the bins that follow from them."""

    def __init__(self, folder):
        self.manifest = json.loads((folder / "manifest.json").read_text())
        content = (folder / "reference.json").read_bytes()
        self.reference = json.loads(content)
        self.id = hashlib.sha256(content).hexdigest()[:12]
        self.model = {"model_name": self.manifest["name"], "model_version": self.manifest["version"]}
        self.own = self.model | {"reference": self.id}
        self.features = [
            Bins.of_feature(declared, frozen)
            for declared, frozen in zip(self.manifest["features"], self.reference["features"], strict=True)
        ]
        self.scores = {str(score["class"]): Bins.of_scores(score) for score in self.reference.get("scores", [])}
        positive = str(self.manifest.get("positive_class"))
        self.positive = positive if positive in self.scores else None

    def sensitive_features(self):
        """(name, groups with the reserved ones) of each that is declared."""
        for feature in self.manifest.get("sensitive_features", []):
            yield feature["name"], [*feature["groups"], "unknown", "declined", "other"]

    def groups_with_scores(self, name):
        """{group: bins of its reference rows} of a sensitive feature, in the order of the manifest."""
        known = self.reference.get("groups", {}).get(name, {})
        declared = next(f["groups"] for f in self.manifest["sensitive_features"] if f["name"] == name)
        if self.positive is None:
            return {}
        return {
            group: self.scores[self.positive].with_counts(known[group]["scores"])
            for group in declared
            if group in known and known[group].get("scores")
        }

    def group_of(self, name, row):
        """The group of one row's `sensitive_features`."""
        _, groups = next(found for found in self.sensitive_features() if found[0] == name)
        value = row.get(name, "unknown")
        return value if value in groups else "other"

    def calibrated(self, name, group, score):
        """Probability that a row of `group` with this score is positive."""
        calibrators = self.reference["calibrators"]
        curve = calibrators.get("groups", {}).get(name, {}).get(group, calibrators["pooled"])
        return float(np.interp(score, curve["scores"], curve["probabilities"]))

    def calibrated_sums(self, name, group, scores, predicted):
        """{predicted class: (rows, sum of p, sum of p (1 - p))} of the rows of a group."""
        made = {str(label): [0, 0.0, 0.0] for label in self.manifest["classes"]}
        for score, label in zip(scores, predicted, strict=True):
            p = self.calibrated(name, group, score)
            made[str(label)][0] += 1
            made[str(label)][1] += p
            made[str(label)][2] += p * (1 - p)
        return made


class Bins:
    """The bins of one feature or score: words, kinds and reference counts."""

    def __init__(self, cells, edges=None, categories=None):
        self.cells = cells
        self.words = [words for words, _, _ in cells]
        self.kinds = [kind for _, kind, _ in cells]
        self.reference = np.array([count for *_, count in cells])
        self.edges = edges
        self.categories = categories

    @classmethod
    def of_feature(cls, declared, frozen):
        """As `reference.json` and the manifest say it."""
        counts = frozen["counts"]
        missing = [("missing", "missing", counts.get("missing", 0))] if declared.get("nullable") else []
        if frozen.get("edges"):
            return cls(
                [*numeric_cells(frozen["edges"], counts, whole=declared["kind"] == "integer"), *missing],
                edges=frozen["edges"],
            )
        cells = [
            (name, "bin" if n else "unseen", n) for name, n in zip(frozen["categories"], counts["bins"], strict=True)
        ]
        if declared["kind"] == "categorical":
            cells.append(("other", "other", counts.get("other", 0)))
        return cls([*cells, *missing], categories=frozen["categories"])

    @classmethod
    def of_scores(cls, frozen):
        """Those of a class's probability."""
        return cls(numeric_cells(frozen["edges"], frozen["counts"]), edges=frozen["edges"])

    def with_counts(self, counts):
        """The same bins of other reference rows."""
        return Bins(numeric_cells(self.edges, counts), edges=self.edges)

    @property
    def names(self):
        """What the label `bin` says of each."""
        return [f"{number:02} {words}" for number, words in enumerate(self.words)]

    @property
    def m(self):
        """Reference rows."""
        return int(self.reference.sum())

    @property
    def cell_names(self):
        """The cell of each bin: its own number, that of its neighbour for the tails, or `rare`."""
        step = {"underflow": 1, "overflow": -1}
        main = [number + step.get(kind, 0) for number, kind in enumerate(self.kinds)]
        rows = {cell: sum(self.reference[b] for b, own in enumerate(main) if own == cell) for cell in main}
        return ["rare" if rows[cell] < max(5, 0.025 * self.m) else f"{cell:02}" for cell in main]

    def in_cells(self, counts):
        """Counts of the cells that are compared."""
        names = self.cell_names
        return np.array([sum(counts[b] for b, own in enumerate(names) if own == cell) for cell in sorted(set(names))])

    @property
    def degrees_of_freedom(self):
        """Cells, less one."""
        return len(set(self.cell_names)) - 1

    def place(self, value):
        """The number of the bin of a posted value."""
        if value is None:
            return self.kinds.index("missing")
        if self.categories is not None:
            return self.categories.index(value if isinstance(value, str) else str(int(value)))
        return sum(bool(np.float32(value) >= np.float32(edge)) for edge in self.edges)

    def count(self, values):
        """How many of `values` fall into each bin."""
        return np.bincount([self.place(value) for value in values], minlength=len(self.cells))

    def quantile(self, comparisons):
        """Of chi-squared, for one of several comparisons."""
        return float(stats.chi2.isf(ERROR / comparisons, self.degrees_of_freedom)) if self.degrees_of_freedom else 0.0

    def compare(self, counts, comparisons):
        """What the report says of these counts, by scipy."""
        n, now, then = int(counts.sum()), self.in_cells(counts), self.in_cells(self.reference)
        if len(now) < 2:
            return {"psi": None, "jensen_shannon": None, "chi_squared": None}
        p, q = ((found + 0.5) / (found.sum() + len(found) / 2) for found in (now, then))
        both = np.stack([now, then])
        test = stats.chi2_contingency(both[:, both.sum(axis=0) > 0], correction=False)
        return {
            "psi": {
                "value": float(stats.entropy(p, q) + stats.entropy(q, p)),
                "critical": self.quantile(comparisons) * (1 / n + 1 / self.m),
                "degrees_of_freedom": self.degrees_of_freedom,
            },
            "jensen_shannon": {"distance": float(jensenshannon(p, q, base=2)), "log_base": 2},
            "chi_squared": {
                "statistic": test.statistic,
                "degrees_of_freedom": test.dof,
                "p_value": test.pvalue,
            },
        }

    def kolmogorov_smirnov(self, counts):
        """scipy's two-sample statistic of the bin numbers; None for categories."""
        if self.edges is None:
            return None
        present = [number for number, kind in enumerate(self.kinds) if kind != "missing"]
        one, other = (np.repeat(present, table[present]) for table in (counts, self.reference))
        return stats.ks_2samp(one, other, method="asymp").statistic

    def shares(self, counts, features):
        """The shares that can occur, beside those of the reference."""
        z, n = stats.norm.isf(ERROR / (3 * features)), counts.sum()
        made = {}
        for name, kinds in SHARES.items():
            mine = np.isin(self.kinds, kinds)
            if not mine.any():
                continue
            value, reference = counts[mine].sum() / n, self.reference[mine].sum() / self.m
            pooled = (n * value + self.m * reference) / (n + self.m)
            critical = z * np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / self.m))
            made[name] = {
                "value": value,
                "reference": reference,
                "difference": value - reference,
                "critical": critical,
                "state": state(value - reference > max(0.05, critical), n),
            }
        return made


def numeric_cells(edges, counts, *, whole=False):
    if whole:  # every number has few digits
        tops = [int(np.ceil(edge)) for edge in edges]
        pairs = zip(tops, tops[1:], counts["bins"], strict=False)
        return [
            (f"below {tops[0]}", "underflow", counts.get("underflow", 0)),
            *((f"{low}" if high - low == 1 else f"{low} to {high - 1}", "bin", n) for low, high, n in pairs),
            (f"above {tops[-1] - 1}", "overflow", counts.get("overflow", 0)),
        ]
    cells = [(f"below {edges[0]:.4g}", "underflow", counts.get("underflow", 0))]
    cells += [
        (f"{low:.4g} to {high:.4g}", "bin", n) for low, high, n in zip(edges, edges[1:], counts["bins"], strict=False)
    ]
    return [*cells, (f"from {edges[-1]:.4g}", "overflow", counts.get("overflow", 0))]


def state(drifted, n):
    """That of a comparison of n rows."""
    return "insufficient" if n < 200 else "drift" if drifted else "ok"


def psi_state(psi, n):
    """That of a distribution."""
    if psi is None:
        return "insufficient"
    return state(psi["value"] > 0.1 and psi["value"] > psi["critical"], n)


def attribution(package, values):
    """Shares of the SHAP values `(n, d)` beside those of the reference."""
    frozen = package.reference["attributions"]
    sums, n = np.abs(values).sum(axis=0), len(values)
    z = stats.norm.isf(ERROR / (2 * len(sums)))
    for part, share in zip(frozen["features"], sums / sums.sum(), strict=True):
        critical = z * part["deviation"] * np.sqrt(1 / n + 1 / frozen["n"])
        difference = share - part["share"]
        yield {
            "feature": part["name"],
            "share": share,
            "reference_share": part["share"],
            "difference": difference,
            "critical": critical,
            "state": state(abs(difference) > max(0.05, critical), n),
        }


def expected_rates(sums, positive):
    """CBPE from {predicted: (rows, sum of p, sum of p (1 - p))}: {rate: (value, low, high)}."""
    n1, s1, v1 = sums[positive]
    n0, s0, v0 = np.sum([found for label, found in sums.items() if label != positive], axis=0)
    z = stats.norm.isf(0.025)
    made = {}
    for name, one, other in (("true_positive_rate", s1, s0), ("false_positive_rate", n1 - s1, n0 - s0)):
        share = one / (one + other)
        spread = np.sqrt((1 - share) ** 2 * v1 + share**2 * v0) / (one + other)
        made[name] = share, share - z * spread, share + z * spread
    spread = np.sqrt(v1) / n1
    made["positive_predictive_value"] = s1 / n1, s1 / n1 - z * spread, s1 / n1 + z * spread
    return {name: (value, max(0, low), min(1, high)) for name, (value, low, high) in made.items()}
