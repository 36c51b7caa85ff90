"""The recording rules on COMPAS, against fairlearn, statsmodels, and published figures."""

from pathlib import Path

import compas
import pytest
from promtool import close, passes

RULES = (Path(__file__).parents[2] / "k8s/monitoring/rules/fairness-1d.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def rows():
    return compas.rows()


@pytest.mark.parametrize("favourable", [0, 1])
def test_rules_agree_with_the_reference_libraries(tmp_path, rows, favourable):
    """Every recorded value, with outcomes for some of the people, favourable either way round."""
    passes(tmp_path, RULES, (compas.replayed(rows, "m", favourable), compas.expected(rows, "m", favourable)))


def test_rules_give_the_published_figures(tmp_path, rows):
    """fairlearn's and AIF360's numbers on the whole table, with "predicted to reoffend" counted as selection."""
    everybody = rows.assign(labelled=True)
    feature, group = (
        "model_sensitive_feature:plumbline_{}:ratio_increase1d",
        "model_group:plumbline_{}:ratio_increase1d",
    )
    race, sex = '{sensitive_feature="race"}', '{sensitive_feature="sex"}'
    american, caucasian = '{group="African-American"}', '{group="Caucasian"}'
    passes(
        tmp_path,
        RULES,
        (
            compas.replayed(everybody, "m", 1),
            [
                close(feature.format("demographic_parity_difference") + race, 0.4571175950),
                close(feature.format("demographic_parity_ratio") + race, 0.3143236074),
                close(feature.format("equalized_odds_difference") + race, 0.5766917293),
                close(feature.format("equalized_odds_difference_mean") + race, 0.4691015871),
                close(feature.format("equalized_odds_ratio") + race, 0.1938968404),
                close(feature.format("demographic_parity_difference") + sex, 0.0448094581),
                close(feature.format("demographic_parity_ratio") + sex, 0.9043484092),
                close(feature.format("equalized_odds_difference") + sex, 0.0206981212),
                close(group.format("selection_rate_difference") + american, 0.2402002032),
                close(group.format("selection_rate_difference_lower") + american, 0.215339),
                close(group.format("selection_rate_difference_upper") + american, 0.264580),
                close(group.format("impact_ratio") + american, 1.6902240032),
                close(group.format("impact_ratio_lower") + american, 1.590995),
                close(group.format("impact_ratio_upper") + american, 1.795642),
                close(group.format("selection_rate_lower") + american, 0.572253),
                close(group.format("selection_rate_upper") + american, 0.603971),
                close(group.format("selection_rate_lower") + caucasian, 0.329408),
                close(group.format("selection_rate_upper") + caucasian, 0.367074),
                close(group.format("true_positive_rate_difference") + american, 0.1973729638),
                close(group.format("false_positive_rate_difference") + american, 0.2139250),
                close(group.format("positive_predictive_value_difference") + american, 0.0383799),
                close(group.format("average_odds_difference") + american, 0.2056489598),
                close(group.format("average_predictive_value_difference") + american, 0.0498974978),
            ],
        ),
    )
