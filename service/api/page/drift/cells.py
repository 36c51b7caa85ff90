"""Single numbers of the drift report in words: how each reads, and why one is missing."""

from typing import Any

from service.api.page import words
from service.api.page.cell import Cell

Json = dict[str, Any]

# Share of values: its column, and how a sentence has it.
SHARES = {
    "missing": ("Missing", "missing"),
    "out_of_range": ("Out of range", "outside the range of the reference"),
    "unseen": ("Unseen", "of a category that the reference has not"),
}
CANNOT_OCCUR = Cell("—")


def state(each: Json) -> str:
    """Of a feature or score: in drift also if one of its shares is."""
    shares = each.get("shares", {}).values()
    return "drift" if any(share.get("state") == "drift" for share in shares) else str(each["state"])


def gravest(states: list[str]) -> str:
    """The state of several together; insufficient where there is none."""
    return next((each for each in ("drift", "ok", "insufficient", "suppressed") if each in states), "insufficient")


def unknown(each: Json, report: Json) -> str:
    """Why a number of a feature, score or group is null."""
    if each["state"] == "suppressed" or each["n"] is None:
        return words.hidden(report)
    if each["n"] == 0:
        return "none yet"
    return "no reference" if each["reference_n"] == 0 else "not defined"


def count(each: Json, key: str, report: Json) -> Cell:
    """How many rows."""
    number = each[key]
    return Cell(words.hidden(report)) if number is None else Cell(words.count(number), known=True)


def psi(each: Json, report: Json) -> list[Cell]:
    """PSI, its critical value, and how often the one holds the other."""
    if not each["psi"]:
        return [Cell(unknown(each, report))] * 3
    value, critical = each["psi"]["value"], each["psi"]["critical"]
    found = (words.number(value), words.number(critical), f"{words.ratio(excess(each))}\N{MULTIPLICATION SIGN}")
    return [Cell(each, known=True) for each in found]


def excess(each: Json) -> float:
    """PSI over its critical value, by which tables are sorted; below 0 where it is unknown."""
    if not each["psi"]:
        return -2.0 if each["state"] == "suppressed" else -1.0
    return float(each["psi"]["value"] / each["psi"]["critical"]) if each["psi"]["critical"] else 0.0


def share(each: Json, name: str, report: Json) -> Cell:
    """The share of missing, out of range or unseen values, beside that of the reference; no shape where it is ok."""
    found = each["shares"].get(name)
    if found is None:
        return CANNOT_OCCUR
    if found.get("suppressed"):
        return Cell("hidden")
    if found["value"] is None:
        return Cell(unknown(each, report))
    beside = "" if found["reference"] is None else f"reference {words.percent(found['reference'])}"
    shown = "" if found["state"] == "ok" else found["state"]
    return Cell(words.percent(found["value"]), beside, shown, known=True)


def measures(each: Json, report: Json) -> list[tuple[str, str, str]]:
    """(name, number, what belongs to it) of each way to measure how two distributions differ."""
    found = [_measure("PSI", each["psi"], "value", "critical {critical:.3f}")]
    found.append(_measure("Jensen-Shannon", each["jensen_shannon"], "distance", "distance, log base {log_base:g}"))
    found.append(_chi_squared(each["chi_squared"]))
    if each.get("kind") in ("numeric", "integer"):
        found.append(_measure("Kolmogorov-Smirnov", each["kolmogorov_smirnov"], "statistic", "on these ranges"))
    missing = unknown(each, report)
    return [(name, number or missing, beside) for name, number, beside in found]


def _measure(name: str, found: Json | None, key: str, beside: str) -> tuple[str, str, str]:
    return (name, words.number(found[key]), beside.format(**found)) if found else (name, "", "")


def _chi_squared(found: Json | None) -> tuple[str, str, str]:
    name, number, freedom = _measure("Chi-squared", found, "statistic", "{degrees_of_freedom}")
    if not found:
        return name, number, freedom
    p = words.p_value(found["p_value"])
    return name, number, f"{words.degrees(found['degrees_of_freedom'])}, p\N{NO-BREAK SPACE}{p}"
