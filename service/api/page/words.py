"""Numbers, times and states of the reports as people read them.

Knows no layout. A number that is hidden or undefined becomes words, never 0 and never nan.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

MINUS = "\N{MINUS SIGN}"
POINTS = "\N{NO-BREAK SPACE}pp"  # percentage points

STATES = {
    "ok": "within tolerance",
    "breach": "breach",
    "drift": "drift",
    "insufficient": "insufficient evidence",
    "suppressed": "hidden",
    "reference": "reference",
    "not_compared": "not compared",
}

# What a rate says while its denominator is 0.
UNDEFINED = {
    "selection_rate": "no predictions yet",
    "label_coverage": "no predictions yet",
    "true_positive_rate": "no positives yet",
    "false_positive_rate": "no negatives yet",
    "positive_predictive_value": "none predicted positive yet",
    "base_rate": "no outcomes yet",
}


def hidden(report: dict[str, Any]) -> str:
    """Why a number of the report is null: hidden, unless nothing is hidden here."""
    return "hidden" if report["suppression"]["enabled"] else "not available"


def count(number: int) -> str:
    """1234567 as 1,234,567."""
    return f"{number:,}"


def percent(share: float) -> str:
    """A share in [0, 1] as a percentage; one that is neither 0 nor 1 never reads 0.0% or 100.0%."""
    if 0 < share < 0.0005:
        return "<0.1%"
    if 0.9995 <= share < 1:
        return ">99.9%"
    return f"{100 * share:.1f}%"


def ratio(number: float) -> str:
    """A ratio >= 0 with two decimals; one above 0 never reads 0.00."""
    return "<0.01" if 0 < number < 0.005 else f"{number:,.2f}"


def number(value: float) -> str:
    """A statistic >= 0 with three decimals, fewer where it is large; one above 0 never reads 0.000."""
    if 0 < value < 0.0005:
        return "<0.001"
    return f"{value:.3f}" if value < 10 else f"{value:,.1f}"


def p_value(probability: float) -> str:
    """= 0.034, or < 0.001; its spaces do not break."""
    sign, number = ("<", 0.001) if probability < 0.001 else ("=", probability)
    return f"{sign}\N{NO-BREAK SPACE}{number:.3f}"


def degrees(of_freedom: int) -> str:
    """9 degrees of freedom."""
    return f"{of_freedom} degree{'' if of_freedom == 1 else 's'} of freedom"


def points(difference: float) -> str:
    """A signed difference of two shares in percentage points."""
    return _signed(100 * difference, 1) + POINTS


def gap(difference: float) -> str:
    """A difference of two shares that is never negative, in percentage points."""
    return f"{100 * difference:.1f}{POINTS}"


def margin(difference: float) -> str:
    """A signed difference of margins, two decimals."""
    return _signed(difference, 2)


def moment(iso: str) -> str:
    """An ISO 8601 time as date and minute in UTC."""
    return f"{datetime.fromisoformat(iso).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def window(name: str) -> str:
    """7d as 7 days, 24h as 24 hours; another name as it is."""
    unit = {"d": "day", "h": "hour", "m": "minute"}.get(name[-1:])
    if unit is None or not name[:-1].isdecimal():
        return name
    return f"{name[:-1]} {unit}" + ("" if name[:-1] == "1" else "s")


def listed(names: Sequence[str], *, most: int = 5) -> str:
    """A, B and C; names beyond `most` are counted."""
    if len(names) > most:
        names = [*names[:most], f"{len(names) - most} more"]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + f" and {names[-1]}"


def quoted(names: Sequence[str]) -> list[str]:
    """Names as they stand out in a sentence: a group may be called “no”."""
    return [f"“{name}”" for name in names]


def state_counts(groups: Sequence[dict[str, Any]]) -> str:
    """How many are in which state, such as `1 breach, 2 insufficient evidence`; a reference group is not counted."""
    states = [group["state"] for group in groups]
    order = ["breach", "drift", "ok", "insufficient", "suppressed", "not_compared"]
    return ", ".join(f"{states.count(state)} {STATES[state]}" for state in order if state in states)


def _signed(number: float, decimals: int) -> str:
    text = f"{abs(number):,.{decimals}f}"
    if float(text.replace(",", "")) == 0:
        return text
    return ("+" if number > 0 else MINUS) + text
