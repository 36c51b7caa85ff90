"""Scrapes of `/metrics`. Every one of them is looked through: no number may be infinite or undefined."""

import math

import exposition

OWN = (
    "plumbline_predictions_total",
    "plumbline_outcomes_total",
    "plumbline_outcome_corrections_total",
    "plumbline_score_sum_total",
    "plumbline_outcome_score_sum_total",
    "plumbline_outcome_score_bin_total",
    "plumbline_attribution_sum_total",
    "plumbline_attribution_margin_sum_total",
    "plumbline_attribution_rows_total",
    "plumbline_sensitive_feature_values_total",
    "plumbline_label_delay_seconds_bucket",
    "plumbline_label_delay_seconds_count",
    "plumbline_label_delay_seconds_sum",
    "plumbline_class_info",
    "plumbline_reference_group_info",
    "plumbline_simultaneous_z",
    "plumbline_simultaneous_difference_z",
)


class Scrape:
    """The samples of one scrape: {(name, ((label, value), ...)): number}."""

    def __init__(self, text):
        self.text = text
        self.samples = exposition.samples(text)
        wild = [key for key, number in self.samples.items() if not math.isfinite(number)]
        assert not wild, wild

    def value(self, name, **labels):
        """The value of one series; None where there is no such series."""
        return self.samples.get((name, tuple(sorted(labels.items()))))

    def sum(self, name, **labels):
        """Of every series that has these labels among its own."""
        return sum(number for _, number in self.of(name, **labels))

    def of(self, name, **labels):
        """(labels, number) of every series that has these labels among its own."""
        found = ((dict(pairs), number) for (sample, pairs), number in self.samples.items() if sample == name)
        return [(own, number) for own, number in found if labels.items() <= own.items()]

    def fairness(self, model_name):
        """The samples that a model's groups make."""
        model = ("model_name", model_name)
        return {key: number for key, number in self.samples.items() if key[0] in OWN and model in key[1]}


def scrape(http):
    """What `http` (a Client in this process, or that of a Server) shows a scraper."""
    response = http.get("/metrics")
    assert response.status_code == 200
    return Scrape(response.text)
