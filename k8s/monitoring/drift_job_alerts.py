"""Alert rules on what `python -m service drift-job` found; they have no window, the job has its own.

Who does not run the job has none of its series, and none of these alerts.
"""

from collections.abc import Iterator

from k8s.monitoring.alerts import WHO, Alert
from k8s.monitoring.promql import GROUP, MODEL, gauge

# An AUC that matters, and a chance that one in a hundred windows without drift has.
LEAST_AUC, MOST_P_VALUE = 0.6, 0.01
# How long a change is told after the outcome that showed it: a job that runs once a day leaves it up for a day.
NEWS_SECONDS = 2 * 86_400
STALE_SECONDS = 2 * 86_400


def drift_job_alerts() -> Iterator[Alert]:
    """Recent rows that are told from the reference, an error rate that has changed, a job that has not run."""
    auc, p_value = gauge("domain_classifier_auc", MODEL), gauge("domain_classifier_p_value", MODEL)
    yield Alert(
        "FeaturesDriftTogether",
        f"""\
  {auc} > {LEAST_AUC}
and
  {p_value} <= {MOST_P_VALUE}""",
        "warning",
        f'{WHO}: a classifier tells recent rows from the reference (AUC {{{{ $value | printf "%.2f" }}}})',
        f'On rows that it did not learn from, the AUC was {{{{ $value | printf "%.2f" }}}}: above the {LEAST_AUC} that '
        f"is tolerated, with a p-value of at most {MOST_P_VALUE}. 0.5 would be no difference, 1 a complete one.",
        "Look at whether FeatureDrift fires for a feature: then that is the cause. Else features have changed "
        "together, each alone as ever: the answer of `python -m service drift-job` names those that tell most.",
        keeps_firing=False,
    )
    latest = gauge("concept_drift_latest_change_timestamp_seconds", GROUP)
    whose = "{{ if $labels.sensitive_feature }}{{ $labels.sensitive_feature }} {{ end }}{{ $labels.group }}"
    yield Alert(
        "ErrorRateChanged",
        f"time() - {latest} < {NEWS_SECONDS}",
        "warning",
        f"{WHO}: the share of wrong predictions for {whose} has changed",
        "The drift job found a change of the error rate; the outcome that showed it arrived "
        "{{ $value | humanizeDuration }} ago.",
        "Look at plumbline_concept_error_ratio, and at the answer of `python -m service drift-job` for when it began "
        "and the error before and after; then at what else changed at that time.",
        keeps_firing=False,
    )
    yield Alert(
        "DriftJobStale",
        f"time() - max(plumbline_drift_job_last_success_timestamp_seconds) > {STALE_SECONDS}",
        "warning",
        "the drift job last finished {{ $value | humanizeDuration }} ago",
        "What the job says of its models is as old; FeaturesDriftTogether and ErrorRateChanged cannot fire anew.",
        "Look at the log of the job: it ends with exit code 2 and the reason if the records or the repository cannot "
        "be read.",
        keeps_firing=False,
    )
