"""The variables that all dashboards have, so that a link from one to another keeps what was chosen; and selectors.

A dashboard hides those that it does not use.
"""

from collections.abc import Collection

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    VariableHide,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from k8s.monitoring.promql import DECLARED

Variable = builders.DatasourceVariable | builders.CustomVariable | builders.QueryVariable

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
NAMES = ("datasource", "window", "model", "version", "sensitive_feature", "group", "feature", "class")
WINDOW = "${window}"
WINDOWS = ("1d", "7d", "5m", "2m")  # those of the committed rules, of docker/compose.yaml and of `make observe`

MODEL = 'model_name="$model",model_version="$version"'
FEATURE = f'{MODEL},sensitive_feature="$sensitive_feature"'
GROUP = f'{FEATURE},group=~"$group"'


def of(series: str, selector: str = MODEL) -> str:
    """Those of the series that are chosen."""
    return f"{series}{{{selector}}}"


def variables(used: Collection[str]) -> list[Variable]:
    """All variables, each after those it depends on; `used` names those to show."""
    made: dict[str, Variable] = {
        "datasource": builders.DatasourceVariable("datasource").label("Data source").type("prometheus"),
        "window": builders.CustomVariable("window")
        .label("Window")
        .description("What the rules look back over; needs rules of this window.")
        .values(",".join(WINDOWS))
        .options([VariableOption(selected=window == WINDOWS[0], text=window, value=window) for window in WINDOWS])
        .current(VariableOption(selected=True, text=WINDOWS[0], value=WINDOWS[0])),
        "model": label_values("model", "Model", "plumbline_model_info", "model_name"),
        "version": label_values(
            "version", "Version", of("plumbline_model_info", 'model_name="$model"'), "model_version"
        ).sort(VariableSort.NUMERICAL_DESC),
        "sensitive_feature": label_values(
            "sensitive_feature", "Sensitive feature", of("plumbline_reference_group_info"), "sensitive_feature"
        ),
        "group": label_values(
            "group", "Group", of("plumbline_predictions_total", f"{FEATURE},{DECLARED.strip('{}')}"), "group"
        )
        .multi(True)
        .include_all(True)
        .current(VariableOption(selected=True, text=["All"], value=["$__all"])),
        "feature": label_values("feature", "Feature", of("plumbline_feature_reference_observations"), "feature"),
        "class": label_values("class", "Class", of("plumbline_score_reference_observations"), "class"),
    }
    for name in made.keys() - set(used):
        made[name].hide(VariableHide.HIDE_VARIABLE)
    return list(made.values())


def label_values(name: str, label: str, series: str, source: str) -> builders.QueryVariable:
    """A variable of the values of a label, written as Grafana's own editor writes it."""
    query = {
        "qryType": 1,
        "query": f"label_values({series}, {source})",
        "refId": "PrometheusVariableQueryEditor-VariableQuery",
    }
    return (
        builders.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query({**query})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )
