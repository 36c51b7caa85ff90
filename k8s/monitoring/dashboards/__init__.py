"""Grafana dashboards as code: Fairness, Drift and Service, written to `json/` by `python -m k8s.monitoring.dashboards`.

They read the series that `k8s.monitoring.recording` and `k8s.monitoring.drift_recording` record, by the names that
`k8s.monitoring.promql` gives them. The window stands in those names: the variable `window` puts it there, so that one
dashboard serves every window for which rules are loaded. What is absent was not counted, or too little to say
anything; it is never drawn as 0 and never green. Alert lists are tables of `ALERTS`, which Prometheus itself keeps.
"""
