"""Recording rules of drift over one window: values, scores and attributions beside the package's frozen reference.

Formulas and names are those of `service.monitor.drift`. What a replica knows of the reference it exports as gauges, the
same on each: `max by` reads them. Without observations there is no series; no rule gives NaN or Inf. The rules are
meant to be evaluated in this order, in one group.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from k8s.monitoring.expected_recording import expected_rates
from k8s.monitoring.promql import COUNTED, GROUP, MODEL, Rule, gauge, increase, ratio
from service.monitor.bins import SHARES


@dataclass(frozen=True)
class Distribution:
    """What is counted in bins: the stem of its metrics, the level of its series, the labels that tell one from another.

    `reference` is among them: bins of another reference are other bins. A cell is a bin or several, what is compared.
    """

    name: str
    level: str
    labels: str

    @property
    def bins(self) -> str:
        """The labels of one bin."""
        return f"{self.labels}, bin, kind, cell"

    @property
    def cells(self) -> str:
        """The labels of one cell."""
        return f"{self.labels}, cell"

    def counts(self, window: str, of: str = "bin") -> str:
        """c: the recorded observations of each bin or cell; 0 is absent."""
        return increase(f"{self.name}_observations", window, f"{self.level}_{of}")

    def n(self, window: str) -> str:
        """The recorded observations of all bins."""
        return increase(f"{self.name}_observations", window, self.level)

    def proportions(self, window: str, of: str = "bin") -> str:
        """The recorded share of each bin, or p, the smoothed one of each cell."""
        return self.statistic("proportion" if of == "bin" else f"{of}_proportion", window, of)

    def reference(self, window: str, of: str = "bin") -> str:
        """The recorded share of each bin in the reference, or q, the smoothed one of each cell."""
        return self.statistic("reference_proportion" if of == "bin" else f"{of}_reference_proportion", window, of)

    def statistic(self, name: str, window: str, of: str = "") -> str:
        """A recorded series of the whole distribution, or of each of its parts."""
        return ratio(f"{self.name}_{name}", window, f"{self.level}_{of}" if of else self.level)

    def reference_rows(self, selector: str = "") -> str:
        """r: the observations of each bin in the reference, also where they are 0."""
        return gauge(f"{self.name}_reference_observations", self.bins, f"{{{selector}}}" if selector else "")

    @property
    def m(self) -> str:
        """The observations in the reference."""
        return f"(sum by ({self.labels}) ({self.reference_rows()}) > 0)"


FEATURES = Distribution("feature", "model_feature", f"{MODEL}, reference, feature")
SCORES = Distribution("score", "model_class", f"{MODEL}, reference, class")
GROUP_SCORES = Distribution("group_score", "model_group_class", f"{GROUP}, reference, class")


def drift_recording_rules(window: str) -> list[Rule]:
    """Every recording rule, (name, expression), in the order of evaluation."""
    return [
        *distribution(FEATURES, window),
        *distance(FEATURES, window),
        *shares(window),
        *distribution(SCORES, window),
        *distance(SCORES, window),
        *distribution(GROUP_SCORES, window),
        *attribution(window),
        *expected_rates(window),
    ]


def distribution(counted: Distribution, window: str) -> Iterator[Rule]:
    """Counts, shares, the population stability index, and what of it chance explains.

    Bins are shown, with plain shares; C cells are compared, with p = (c + 1/2) / (n + C/2), so that none is 0. Without
    drift PSI / (1/n + 1/m) is about chi-squared with C - 1 degrees of freedom (Yurdakul 2018); the replicas export its
    quantile. A single cell has no PSI.
    """
    labels, counts, n = counted.labels, counted.counts(window), counted.n(window)
    p, q, r = counted.proportions(window, "cell"), counted.reference(window, "cell"), counted.reference_rows()
    yield counts, f"sum by ({counted.bins}) (increase(plumbline_{counted.name}_observations_total[{window}])) {COUNTED}"
    yield n, f"sum by ({labels}) ({counts})"
    yield counted.proportions(window), f"({counts} or 0 * {r}) / on ({labels}) group_left () {n}"
    yield (
        counted.reference(window),
        f"""\
  {r}
/ on ({labels}) group_left ()
  ({counted.m} and {n})""",
    )
    yield counted.counts(window, "cell"), f"sum by ({counted.cells}) ({counts})"
    of_cells = f"sum by ({counted.cells}) ({r})"
    yield (
        q,
        f"""\
({of_cells} + 0.5)
/ on ({labels}) group_left ()
  (({counted.m} and {n}) + count by ({labels}) ({of_cells}) / 2)""",
    )
    yield (
        p,
        f"""\
(({counted.counts(window, "cell")} or 0 * {q}) + 0.5)
/ on ({labels}) group_left ()
  ({n} + count by ({labels}) ({q}) / 2)""",
    )
    yield (
        counted.statistic("psi", window),
        f"""\
  sum by ({labels}) (({p} - {q}) * ln({p} / {q}))
and
  count by ({labels}) ({q}) > 1""",
    )
    quantile = gauge(f"{counted.name}_psi_chi2_quantile", labels)
    yield (
        counted.statistic("psi_critical", window),
        f"{quantile} * (1 / {n} + 1 / {counted.m}) and {counted.statistic('psi', window)}",
    )


def distance(counted: Distribution, window: str) -> Iterator[Rule]:
    """The Jensen-Shannon distance in bits: the square root of the divergence to base 2, in [0, 1]."""
    p, q = counted.proportions(window, "cell"), counted.reference(window, "cell")
    # Rounding must not make a divergence of 0 negative.
    yield (
        counted.statistic("jensen_shannon_distance", window),
        f"""\
sqrt(clamp_min(
  sum by ({counted.labels}) (
      {p} * log2(2 * {p} / ({p} + {q}))
    + {q} * log2(2 * {q} / ({p} + {q}))
  ) / 2,
  0
))
and {counted.statistic("psi", window)}""",
    )


def shares(window: str) -> Iterator[Rule]:
    """Shares of values that are missing, out of range or unseen; in the reference; the difference chance may make.

    The latter is z √(s (1 - s) (1/n + 1/m)) with the share s of both together, `_pooled`; z holds for all features and
    shares.
    """
    labels, n, m = FEATURES.labels, FEATURES.n(window), FEATURES.m
    z = gauge("input_share_z", f"{MODEL}, reference")
    for name, kinds in SHARES.items():
        value, reference = FEATURES.statistic(name, window), FEATURES.statistic(f"{name}_reference", window)
        for recorded, bins in ((value, FEATURES.proportions(window)), (reference, FEATURES.reference(window))):
            yield recorded, f'sum by ({labels}) ({bins}{{kind=~"{"|".join(kinds)}"}})'
        pooled = FEATURES.statistic(f"{name}_pooled", window)
        yield pooled, f"({n} * {value} + {m} * {reference}) / ({n} + {m})"
        # Rounding must not make the share of all exceed 1.
        yield (
            FEATURES.statistic(f"{name}_critical", window),
            f"""\
sqrt(
    clamp_min({pooled} * (1 - {pooled}), 0)
  * (1 / {n} + 1 / {m})
)
* on ({MODEL}, reference) group_left ()
  {z}""",
        )


def attribution(window: str) -> Iterator[Rule]:
    """Each feature's share of all |SHAP value|, what it differs from the reference's, and what chance explains of that.

    The standard error of a share from n rows is s √(1/n + 1/m) with the reference's deviation s and m rows.
    """
    labels, level = f"{MODEL}, feature", FEATURES.level
    rows, share = increase("attribution_magnitude_rows", window, "model"), ratio("attribution_share", window, level)
    magnitude = f"increase(plumbline_attribution_magnitude_sum_total[{window}])"
    yield rows, f"sum by ({MODEL}) (increase(plumbline_attribution_magnitude_rows_total[{window}])) {COUNTED}"
    yield (
        share,
        f"""\
  sum by ({labels}) ({magnitude})
/ on ({MODEL}) group_left ()
  (sum by ({MODEL}) ({magnitude}) > 0 and {rows})""",
    )
    yield (
        ratio("attribution_share_difference", window, level),
        f"{share} - {gauge('attribution_reference_share', labels)}",
    )
    m = f"({gauge('attribution_reference_rows', MODEL)} > 0)"
    yield (
        ratio("attribution_share_critical", window, level),
        f"""\
  {gauge("attribution_reference_deviation", labels)}
* on ({MODEL}) group_left ()
  ({gauge("attribution_share_z", MODEL)} * sqrt(1 / {rows} + 1 / {m}))""",
    )
