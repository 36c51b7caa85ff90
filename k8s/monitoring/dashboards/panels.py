"""Panels of each kind: what they show is given as PromQL, one sentence says how to read them.

A query is (name, expression): the name is the legend, a template of labels, or the header of the column.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from grafana_foundation_sdk.builders import barchart, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus as prometheus_builders
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import (
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat, QueryEditorMode

from k8s.monitoring.dashboards.variables import SOURCE

Panel = timeseries.Panel | table.Panel | barchart.Panel | stat.Panel | statetimeline.Panel
P = TypeVar("P", timeseries.Panel, table.Panel, barchart.Panel, stat.Panel, statetimeline.Panel)
Query = tuple[str, str]

PERCENT, SECONDS, COUNT, NUMBER = "percentunit", "s", "short", "none"
INSUFFICIENT, OK, BEYOND = 0, 1, 2  # values of a state; insufficient is blue, for it is no good news
PER_LINE = 4  # repeated panels beside each other


def states(beyond: str) -> list[ValueMap]:
    """The words and colours of a state, `beyond` for the worst."""
    words = {INSUFFICIENT: ("insufficient", "blue"), OK: ("ok", "green"), BEYOND: (beyond, "red")}
    return [
        ValueMap(
            {
                str(value): ValueMappingResult(text=text, color=colour, index=value)
                for value, (text, colour) in words.items()
            }
        )
    ]


def framed(
    panel: P, title: str, description: str, queries: Sequence[prometheus_builders.Dataquery], size: tuple[int, int]
) -> P:
    """What every panel has; the size is (width, height) on Grafana's grid, 24 wide."""
    return (
        panel.title(title)
        .description(description)
        .datasource(SOURCE)
        .targets(list(queries))
        .span(size[0])
        .height(size[1])
    )


def over_time(queries: Sequence[Query]) -> list[prometheus_builders.Dataquery]:
    """Range queries with their legends."""
    return [
        query(expr, number).range().legend_format(legend).format(PromQueryFormat.TIME_SERIES)
        for number, (legend, expr) in enumerate(queries)
    ]


def at_the_end(expressions: Sequence[str]) -> list[prometheus_builders.Dataquery]:
    """Instant queries, at the end of the time range, whose labels become columns."""
    return [
        query(expr, number).instant().format(PromQueryFormat.TABLE).legend_format("")
        for number, expr in enumerate(expressions)
    ]


def query(expr: str, number: int) -> prometheus_builders.Dataquery:
    """A query written as PromQL; A, B, C, ... by its number."""
    made = prometheus_builders.Dataquery().expr(expr).ref_id(chr(ord("A") + number)).datasource(SOURCE)
    return made.editor_mode(QueryEditorMode.CODE)


def lines(
    title: str,
    description: str,
    *queries: Query,
    unit: str,
    size: tuple[int, int] = (12, 8),
    limit: float | None = None,
    zero: bool = True,
) -> timeseries.Panel:
    """Lines over time, with a dashed one at the limit; `zero`: the axis begins at 0."""
    panel = framed(timeseries.Panel(), title, description, over_time(queries), size)
    panel.unit(unit).line_width(1).show_points(common.VisibilityMode.AUTO)
    panel.color_scheme(builders.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
    panel.legend(legend()).tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    if zero:
        panel.axis_soft_min(0)
    if limit is not None:
        panel.thresholds(steps(("transparent", None), ("red", limit)))
        panel.thresholds_style(
            common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        )
        panel.axis_soft_max(limit)
    return panel


def banded(
    title: str,
    description: str,
    name: str,
    expressions: Mapping[str, str],
    *,
    unit: str = PERCENT,
    limit: float | None = None,
    beside: Query | None = None,
) -> timeseries.Panel:
    """A line within its interval for each chosen group; `expressions` has `value`, `lower`, `upper`.

    `beside`: another line, to be compared with the first.
    """
    queries = [("upper", expressions["upper"]), ("lower", expressions["lower"]), (name, expressions["value"])]
    if beside:
        queries.append(beside)
    panel = lines(title, description, *queries, unit=unit, size=(24, 8), limit=limit)
    edge = [setting("custom.lineWidth", 0), setting("color", {"mode": "fixed", "fixedColor": "blue"})]
    unseen = setting("custom.hideFrom", {"legend": True, "tooltip": False, "viz": False})
    panel.override_by_name(
        "upper", [*edge, unseen, setting("custom.fillBelowTo", "lower"), setting("custom.fillOpacity", 20)]
    )
    panel.override_by_name("lower", [*edge, unseen])
    panel.override_by_name(
        name, [setting("color", {"mode": "fixed", "fixedColor": "blue"}), setting("custom.lineWidth", 2)]
    )
    if beside:
        panel.override_by_name(
            beside[0], [setting("color", {"mode": "fixed", "fixedColor": "orange"}), setting("custom.lineWidth", 2)]
        )
    return panel.repeat("group").repeat_direction("h").max_per_row(PER_LINE)


def timeline(
    title: str, description: str, *queries: Query, beyond: str, size: tuple[int, int] = (12, 8)
) -> statetimeline.Panel:
    """States over time, a lane for each query."""
    panel = framed(statetimeline.Panel(), title, description, over_time(queries), size)
    panel.mappings(list(states(beyond))).merge_values(True).show_value(common.VisibilityMode.NEVER)
    panel.color_scheme(by_value()).thresholds(steps(("blue", None)))
    return panel.row_height(0.8).fill_opacity(80).line_width(0).legend(legend())


def number(
    title: str,
    description: str,
    expr: str,
    *,
    unit: str,
    bad_above: float | None = None,
    size: tuple[int, int] = (6, 4),
) -> stat.Panel:
    """The last value in large figures, red above a limit."""
    panel = framed(stat.Panel(), title, description, over_time([("", expr)]), size).unit(unit)
    colours = [("text", None)] if bad_above is None else [("green", None), ("red", bad_above)]
    panel.thresholds(steps(*colours)).color_scheme(by_value())
    panel.reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    return panel.color_mode(common.BigValueColorMode.VALUE).graph_mode(common.BigValueGraphMode.AREA)


def setting(name: str, value: object) -> DynamicConfigValue:
    """What an override sets."""
    return DynamicConfigValue(id_val=name, value=value)


def steps(*colours: tuple[str, float | None]) -> builders.ThresholdsConfig:
    """Colours from a value on; None for the lowest."""
    made = [Threshold(color=colour, value=value) for colour, value in colours]
    return builders.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(made)


def by_value() -> builders.FieldColor:
    """The colour of the threshold that a value has passed."""
    return builders.FieldColor().mode(FieldColorModeId.THRESHOLDS)


def legend() -> common_builders.VizLegendOptions:
    """Names below the picture."""
    made = common_builders.VizLegendOptions().display_mode(common.LegendDisplayMode.LIST)
    return made.placement(common.LegendPlacement.BOTTOM).show_legend(True)
