"""The rules of fairness or of drift over one window as a Prometheus rule file.

`python -m k8s.monitoring.render_rules --help` lists the options.
"""

import re
import textwrap
from collections.abc import Iterable
from typing import Annotated, Literal

import typer

from k8s.monitoring.alerts import Alert, breach_alerts, evidence_alert, refusal_alert, silence_alert
from k8s.monitoring.drift_alerts import drift_alerts
from k8s.monitoring.drift_job_alerts import drift_job_alerts
from k8s.monitoring.drift_recording import drift_recording_rules
from k8s.monitoring.recording import recording_rules

DURATION = re.compile(r"([0-9]+(ms|[smhdwy]))+")
WIDTH = 120

Kind = Literal["fairness", "drift"]


def render(
    window: str,
    *,
    interval: str,
    kind: Kind = "fairness",
    for_: str = "10m",
    keep_firing_for: str = "30m",
    windowless: bool = True,
) -> str:
    """The rule file as YAML. All arguments are Prometheus durations, such as 2m, 1h or 7d.

    One group, for its rules build on each other. Prometheus forgets a series after five minutes: an interval of that
    or more leaves holes between evaluations. Alerts that look back over no window are wanted once for each kind, in the
    file of one window: `windowless`.
    """
    if kind == "drift":
        recorded, alerts = drift_recording_rules(window), list(drift_alerts(window))
        alerts += drift_job_alerts() if windowless else []
    else:
        recorded = recording_rules(window)
        alerts = [*breach_alerts(window), evidence_alert(window)]
        alerts += [silence_alert(), refusal_alert()] if windowless else []
    lines = [
        f"# Made by k8s/monitoring/render_rules.py for a window of {window}; change it there and run `make rules`.",
        "groups:",
        f"- name: plumbline-{kind}-{window}",
        f"  interval: {interval}",
        "  rules:",
    ]
    for name, expr in recorded:
        lines += [f"  - record: {name}", *block("expr", expr)]
    for alert in alerts:
        lines += alert_lines(alert, window, for_, keep_firing_for)
    return "\n".join(lines) + "\n"


def alert_lines(alert: Alert, window: str, for_: str, keep_firing_for: str) -> Iterable[str]:
    """The lines of one alert rule."""
    yield f"  - alert: {alert.name}"
    yield from block("expr", alert.expr)
    yield f"    for: {for_}"
    if alert.keeps_firing:
        yield f"    keep_firing_for: {keep_firing_for}"
    yield from ("    labels:", f"      severity: {alert.severity}", f"      window: {window}", "    annotations:")
    for key in ("summary", "description", "action"):
        yield f"      {key}: >-"
        yield from folded(getattr(alert, key))


def block(key: str, text: str) -> list[str]:
    """A literal block; the 2 lets its first line be indented further than the others."""
    return [f"    {key}: |2", *textwrap.indent(text, " " * 6).splitlines()]


def folded(text: str) -> list[str]:
    """The lines of a folded block; a template, {{ ... }}, is never broken."""
    whole = re.sub(r"{{.*?}}", lambda template: template[0].replace(" ", "\0"), text)
    lines = textwrap.wrap(whole, WIDTH - 8, break_long_words=False, break_on_hyphens=False)
    return [" " * 8 + line.replace("\0", " ") for line in lines]


def duration(value: str) -> str:
    """The value, if Prometheus takes it for a duration."""
    if not DURATION.fullmatch(value):
        raise typer.BadParameter("a Prometheus duration is expected, such as 2m, 1h or 7d")
    return value


def main(
    window: Annotated[str, typer.Option(parser=duration, metavar="DURATION", help="What the rules look back over.")],
    interval: Annotated[str, typer.Option(parser=duration, metavar="DURATION", help="How often they are evaluated.")],
    kind: Annotated[Kind, typer.Option(help="What the rules are about.")] = "fairness",
    for_: Annotated[
        str, typer.Option("--for", parser=duration, metavar="DURATION", help="How long before an alert fires.")
    ] = "10m",
    keep_firing_for: Annotated[
        str, typer.Option(parser=duration, metavar="DURATION", help="How long an alert fires after it has ended.")
    ] = "30m",
    windowless: Annotated[
        bool, typer.Option(help="With the alerts that have no window; one file of each kind suffices.")
    ] = True,
) -> None:
    """Print the rule file of one window."""
    typer.echo(
        render(window, interval=interval, kind=kind, for_=for_, keep_firing_for=keep_firing_for, windowless=windowless),
        nl=False,
    )


if __name__ == "__main__":
    typer.run(main)
