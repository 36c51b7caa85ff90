"""Tables and bar charts: the answers of instant queries, joined by a label that they share.

A key is {label: header}, the label first that names the row; the other columns or bars are queries of one value each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import barchart, table
from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import DataTransformerConfig, DynamicConfigValue, FieldColorModeId

from k8s.monitoring.dashboards.panels import NUMBER, Query, at_the_end, framed, legend, setting, states
from k8s.monitoring.dashboards.variables import NAMES, of


@dataclass(frozen=True)
class Column:
    """A column of a table; a state if `beyond` names its worst."""

    name: str
    expr: str
    unit: str = NUMBER
    decimals: int | None = None
    beyond: str | None = None

    def settings(self) -> list[DynamicConfigValue]:
        """What Grafana must know to show it."""
        found = [setting("noValue", "-")]
        if self.beyond is not None:
            cell = setting("custom.cellOptions", common.TableColoredBackgroundCellOptions())
            return [*found, setting("mappings", states(self.beyond)), cell]
        found.append(setting("unit", self.unit))
        return found if self.decimals is None else [*found, setting("decimals", self.decimals)]


def rows(
    title: str,
    description: str,
    key: Mapping[str, str],
    *columns: Column,
    sort: str | None = None,
    chooses: str | None = None,
    size: tuple[int, int] = (24, 8),
) -> table.Panel:
    """A table with a row for each value of the key, in its order, or from the largest of the column `sort` on.

    `chooses`: the variable that a click on the key sets.
    """
    panel = framed(table.Panel(), title, description, at_the_end([per(key, column.expr) for column in columns]), size)
    panel.transformations(joined(key, [column.name for column in columns]))
    header = next(iter(key.values()))
    for column in columns:
        panel.override_by_name(column.name, column.settings())
    if chooses is not None:
        link = {"title": f"Choose this {chooses.replace('_', ' ')}", "url": choice(chooses)}
        panel.override_by_name(header, [setting("links", [link])])
    by = common_builders.TableSortByFieldState().display_name(sort or header).desc(sort is not None)
    return panel.sort_by([by]).show_header(True).filterable(True).cell_height(common.TableCellHeight.SM)


def bars(
    title: str,
    description: str,
    key: Mapping[str, str],
    *queries: Query,
    unit: str,
    sort: str | None = None,
    horizontal: bool = False,
    size: tuple[int, int] = (12, 10),
) -> barchart.Panel:
    """Bars beside each other for each value of the key, in its order, or from the largest of the query `sort` on."""
    panel = framed(barchart.Panel(), title, description, at_the_end([per(key, expr) for _, expr in queries]), size)
    header = next(iter(key.values()))
    order = transformation("sortBy", sort=[{"field": sort or header, "desc": sort is not None}])
    panel.transformations([*joined(key, [name for name, _ in queries]), order])
    panel.x_field(header).unit(unit).legend(legend()).fill_opacity(80).line_width(1).x_tick_label_max_length(30)
    panel.orientation(common.VizOrientation.HORIZONTAL if horizontal else common.VizOrientation.VERTICAL)
    panel.color_scheme(builders.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC)).bar_width(0.9).group_width(0.8)
    return panel.show_value(common.VisibilityMode.NEVER).x_tick_label_rotation(0 if horizontal else -45)


def alert_list(description: str, names: Sequence[str], labels: Sequence[str]) -> table.Panel:
    """A table of the pending and firing alerts of these names, of the model that is chosen or of none."""
    chosen = f'alertname=~"{"|".join(names)}",model_name=~"$model|",model_version=~"$version|"'
    kept = ("alertstate", "alertname", "severity", "window", *labels)
    expr = f"""\
max by ({", ".join(kept)}) (
    {of("ALERTS", chosen)}
  * ignoring (alertstate) group_left ()
    (1000 * {of("ALERTS_FOR_STATE", chosen)})
)"""
    panel = framed(table.Panel(), "Alerts", description, at_the_end([expr]), (24, 6))
    headers = {label: label.replace("_", " ").capitalize() for label in kept}
    headers |= {"alertstate": "State", "alertname": "Alert", "Value": "Since"}
    order = ("alertstate", "Value", *kept[1:])
    panel.transformations([organised(order, headers)]).no_value("no alert is pending or firing")
    panel.override_by_name("Since", [setting("unit", "dateTimeFromNow")])
    panel.sort_by([common_builders.TableSortByFieldState().display_name("State").desc(False)])
    return panel.show_header(True).cell_height(common.TableCellHeight.SM)


def per(key: Mapping[str, str], expr: str) -> str:
    """One value for each value of the key, and no other label."""
    return f"max by ({', '.join(key)}) (\n{expr}\n)"


def choice(variable: str) -> str:
    """The address of this dashboard with the clicked value chosen, and all else as it is."""
    kept = "&".join(f"${{{name}:queryparam}}" for name in NAMES if name != variable)
    return f"/d/${{__dashboard.uid}}?{kept}&var-{variable}=${{__value.text:percentencode}}&${{__url_time_range}}"


def joined(key: Mapping[str, str], names: Sequence[str]) -> list[DataTransformerConfig]:
    """One table of instant queries that share the key: Grafana names the value of query A `Value #A`."""
    values = ["Value"] if len(names) == 1 else [f"Value #{chr(ord('A') + number)}" for number in range(len(names))]
    named = {**key, **dict(zip(values, names, strict=True))}
    return [transformation("merge"), organised([*key, *values], named)]


def organised(order: Sequence[str], names: Mapping[str, str]) -> DataTransformerConfig:
    """Columns in this order under these names, without the time."""
    index = {column: place for place, column in enumerate(order)}
    return transformation("organize", excludeByName={"Time": True}, indexByName=index, renameByName=dict(names))


def transformation(name: str, **options: object) -> DataTransformerConfig:
    """One step between the answers and the picture."""
    return DataTransformerConfig(id_val=name, options=options)
