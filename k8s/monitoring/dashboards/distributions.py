"""What the dashboard Drift shows of any distribution: of a feature, of scores, or of scores of a group."""

from k8s.monitoring.dashboards import tables
from k8s.monitoring.dashboards.panels import COUNT, NUMBER, PERCENT, Panel
from k8s.monitoring.dashboards.states import psi_state
from k8s.monitoring.dashboards.tables import Column
from k8s.monitoring.dashboards.variables import MODEL, WINDOW, of
from k8s.monitoring.drift_recording import Distribution


def psi(counted: Distribution, selector: str) -> dict[str, str]:
    """The recorded statistics of distributions: psi, critical, their quotient, n."""
    value, critical = (of(counted.statistic(name, WINDOW), selector) for name in ("psi", "psi_critical"))
    n = of(counted.n(WINDOW), selector)
    return {"psi": value, "critical": critical, "quotient": f"{value} / {critical}", "n": n}


def psi_columns(counted: Distribution, alert: str, selector: str = MODEL) -> list[Column]:
    """The columns that every table of distributions has."""
    recorded, m = psi(counted, selector), f"sum by ({counted.labels}) ({counted.reference_rows(selector)})"
    return [
        Column("State", psi_state(counted, alert, selector), beyond="drift"),
        Column("PSI / critical value", recorded["quotient"], NUMBER, 2),
        Column("PSI", recorded["psi"], NUMBER, 3),
        Column("Critical value", recorded["critical"], NUMBER, 3),
        Column("n", f"  {recorded['n']}\nor\n  0 * {m}", COUNT, 0),
        Column("n of the reference", m, COUNT, 0),
    ]


def distance(counted: Distribution) -> Column:
    """The Jensen-Shannon distance."""
    return Column("Jensen-Shannon distance", of(counted.statistic("jensen_shannon_distance", WINDOW)), NUMBER, 3)


def against_reference(counted: Distribution, selector: str, title: str, description: str) -> Panel:
    """Shares of each bin, current beside reference."""
    return tables.bars(
        title,
        description,
        {"bin": "Bin"},
        ("current", of(counted.proportions(WINDOW), selector)),
        ("reference", of(counted.reference(WINDOW), selector)),
        unit=PERCENT,
    )
