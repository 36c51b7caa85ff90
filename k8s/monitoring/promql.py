"""Pieces of PromQL that recording and alert rules share: label sets, series names, joins with the info series."""

from service.manifest import RESERVED_GROUPS
from service.monitor.intervals import CONFIDENCE, quantile

Rule = tuple[str, str]  # name, expression

# `by` these labels alone, so that whatever a scrape adds (instance, pod, job, namespace, ...) sums away.
MODEL = "model_name, model_version"
FEATURE = f"{MODEL}, sensitive_feature"
GROUP = f"{FEATURE}, group"
# The level of a series by FEATURE.
PER_FEATURE = "model_sensitive_feature"

DECLARED = f'{{group!~"{"|".join(RESERVED_GROUPS)}"}}'

Z = repr(quantile(CONFIDENCE))

# Counts are whole, and increase() never gives less than what it saw. What is left of a cell whose outcomes were all
# corrected through another replica is rounding of the extrapolation; below a half it is none.
COUNTED = "> 0.5"

# Every replica exports the info series. `and` and `unless` take several on their right side; it needs no aggregation.
IS_REFERENCE = f"on ({GROUP}) plumbline_reference_group_info"
SIMULTANEOUS_Z = f"max by ({FEATURE}) (plumbline_simultaneous_z)"
SIMULTANEOUS_DIFFERENCE_Z = f"max by ({FEATURE}) (plumbline_simultaneous_difference_z)"

RATES = (
    "selection_rate",
    "true_positive_rate",
    "false_positive_rate",
    "positive_predictive_value",
    "label_coverage",
)
# Judged by their difference from the reference group; selection is judged by two ratios.
JUDGED_DIFFERENCES = RATES[1:]


def increase(name: str, window: str, level: str = "model_group") -> str:
    """The recorded series of a count over the window."""
    return f"{level}:plumbline_{name}:increase{window}"


def cells(window: str) -> str:
    """The recorded labelled cells per predicted and actual class."""
    return increase("outcomes", window, "model_group_predicted_actual")


def ratio(name: str, window: str, level: str = "model_group") -> str:
    """The recorded series of a share, of a difference or ratio of shares, or of a bound of one, over the window."""
    return f"{level}:plumbline_{name}:ratio_increase{window}"


def mean(name: str, window: str, level: str = "model_group") -> str:
    """The recorded series of a mean, or of a difference of means, over the window."""
    return f"{level}:plumbline_{name}:mean_increase{window}"


def gauge(name: str, labels: str, selector: str = "") -> str:
    """What every replica exports alike, told apart by these labels."""
    return f"max by ({labels}) (plumbline_{name}{selector})"


def class_with(role: str, label: str) -> str:
    """A right side for `and` and `unless`: keeps or drops the series whose class in `label` has this role."""
    classes = f'plumbline_class_info{{{role}="true"}}'
    return f'on ({MODEL}, {label}) label_replace({classes}, "{label}", "$1", "class", "(.+)")'


def model_with(role: str) -> str:
    """A right side for `and`: keeps the series of models that have a class of this role."""
    return f'on ({MODEL}) plumbline_class_info{{{role}="true"}}'


def of_reference(series: str) -> str:
    """The one series per sensitive feature that belongs to the reference group."""
    return f"({series} and {IS_REFERENCE})"


def compared(series: str) -> str:
    """The series of the declared groups other than the reference group."""
    return f"({series}{DECLARED} unless {IS_REFERENCE})"
