"""Recording rules of drift over one window: values, scores and attributions beside the package's frozen reference.

Formulas and names are those of `service.monitor.drift`. What a replica knows of the reference it exports as gauges, the
same on each: `max by` reads them. Without observations there is no series; no rule gives NaN or Inf. The rules are
meant to be evaluated in this order, in one group.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from k8s.monitoring.expected_recording import expected_rates
from k8s.monitoring.promql import GROUP, MODEL, gauge, increase, ratio
from k8s.monitoring.recording import COUNTED, Rule


@dataclass(frozen=True)
class Distribution:
    """What is counted in bins: the stem of its metrics, the level of its series, the labels that tell one from another.

    `reference` is among them: bins of another reference are other bins.
    """

    name: str
    level: str
    labels: str

    @property
    def bins(self) -> str:
        """The labels of one bin."""
        return f"{self.labels}, bin, kind"

    def counts(self, window: str) -> str:
        """c: the recorded observations of each bin; 0 is absent."""
        return increase(f"{self.name}_observations", window, f"{self.level}_bin")

    def n(self, window: str) -> str:
        """The recorded observations of all bins."""
        return increase(f"{self.name}_observations", window, self.level)

    def proportions(self, window: str) -> str:
        """p: the recorded smoothed share of each bin."""
        return ratio(f"{self.name}_proportion", window, f"{self.level}_bin")

    def statistic(self, name: str, window: str) -> str:
        """A recorded series of the whole distribution."""
        return ratio(f"{self.name}_{name}", window, self.level)

    def reference(self, selector: str = "") -> str:
        """q: the smoothed share of each bin in the reference, more than 0."""
        return gauge(f"{self.name}_reference_proportion", self.bins, selector)

    @property
    def m(self) -> str:
        """The observations in the reference."""
        return f"({gauge(f'{self.name}_reference_observations', self.labels)} > 0)"


FEATURES = Distribution("feature", "model_feature", f"{MODEL}, reference, feature")
SCORES = Distribution("score", "model_class", f"{MODEL}, reference, class")
GROUP_SCORES = Distribution("group_score", "model_group_class", f"{GROUP}, reference, class")

# Which kinds of bins hold the values of each share; a feature that has none of them has no such share.
SHARES = {"missing": "missing", "out_of_range": "underflow|overflow", "unseen": "unseen|other"}


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
    """Counts, smoothed shares, the population stability index, and what of it chance explains.

    The current shares are smoothed toward the reference, p = (c + B/2 q) / (n + B/2) for B bins, so that none is 0. A
    bin that is empty on both sides adds about ln(2n/B) / 2m. Without drift PSI / (1/n + 1/m) is about chi-squared with
    B - 1 degrees of freedom (Yurdakul & Naranjo 2020); the replicas export its quantile.
    """
    labels, counts, n, q = counted.labels, counted.counts(window), counted.n(window), counted.reference()
    p, half_bins = counted.proportions(window), f"count by ({labels}) ({q}) / 2"
    raw = f"plumbline_{counted.name}_observations_total"
    yield counts, f"sum by ({counted.bins}) (increase({raw}[{window}])) {COUNTED}"
    yield n, f"sum by ({labels}) ({counts})"
    yield (
        p,
        f"""\
(
    ({counts} or 0 * {q})
  + {q} * on ({labels}) group_left () ({half_bins})
)
/ on ({labels}) group_left ()
  ({n} + {half_bins})""",
    )
    yield (
        counted.statistic("psi", window),
        f"""\
sum by ({labels}) (
  ({p} - {q}) * ln({p} / {q})
)""",
    )
    quantile = gauge(f"{counted.name}_psi_chi2_quantile", labels)
    yield counted.statistic("psi_critical", window), f"{quantile} * (1 / {n} + 1 / {counted.m})"


def distance(counted: Distribution, window: str) -> Iterator[Rule]:
    """The Jensen-Shannon distance in bits: the square root of the divergence to base 2, in [0, 1]."""
    p, q = counted.proportions(window), counted.reference()
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
))""",
    )


def shares(window: str) -> Iterator[Rule]:
    """Shares of values that are missing, out of range or unseen; in the reference; the difference chance may make.

    The latter is z √(s (1 - s) (1/n + 1/m)) with the share s of both together, `_pooled`; z holds for all features and
    shares.
    """
    labels, counts, n, m = FEATURES.labels, FEATURES.counts(window), FEATURES.n(window), FEATURES.m
    z = gauge("input_share_z", f"{MODEL}, reference")
    for name, kinds in SHARES.items():
        value, reference = FEATURES.statistic(name, window), FEATURES.statistic(f"{name}_reference", window)
        of_kind = f'{{kind=~"{kinds}"}}'
        of_reference = f"sum by ({labels}) ({FEATURES.reference(of_kind)})"
        yield (
            value,
            f"""\
(
    sum by ({labels}) ({counts}{of_kind})
  or
    0 * {of_reference}
)
/
{n}""",
        )
        yield reference, f"{of_reference} and {n}"
        pooled = FEATURES.statistic(f"{name}_pooled", window)
        yield pooled, f"({n} * {value} + {m} * {reference}) / ({n} + {m})"
        yield (
            FEATURES.statistic(f"{name}_critical", window),
            f"""\
sqrt(
    {pooled} * (1 - {pooled})
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
