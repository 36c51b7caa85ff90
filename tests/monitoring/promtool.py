"""Rule tests as data, run by `promtool` (Debian: prometheus): what Prometheus scrapes, and what it is to show."""

import json
import shutil
import subprocess
from collections.abc import Iterable

import pytest

SCRAPED = {"job": "plumbline", "namespace": "demo"}
REPLICAS = ("a", "b")
TOLERANCE = 1e-6
# A day in few steps: each is an evaluation of every rule.
EVERY, SAMPLES = "6h", 4
RECORDED = '{__name__=~".+:plumbline_.+"}'


def selector(name, labels):
    """`name{label="value",...}`; json's quoting is PromQL's."""
    return name + "{" + ",".join(f"{label}={json.dumps(value)}" for label, value in labels.items()) + "}"


def recorded(name, operation="ratio_increase1d", level="model_group", **labels):
    """The selector of a recorded series."""
    return selector(f"{level}:plumbline_{name}:{operation}", labels)


def series(name, values, replica="a", **labels):
    """One series of one replica, with labels that a scrape adds."""
    scraped = {**SCRAPED, "pod": replica, "instance": f"{replica}:8000"}
    return {"series": selector(name, labels | scraped), "values": values}


def stepping(count, samples=SAMPLES):
    """A counter that is there at 0, and has counted everything by the next sample."""
    return f"0 {float(count)!r}+0x{samples - 1}"


def constant(value, samples=SAMPLES):
    return f"{value!r}+0x{samples}"


def close(expr, value, time="1d", tolerance=TOLERANCE):
    """Expects that the expression gives exactly one series, within the tolerance of the value."""
    return expect(f"sum(abs(({expr}) - ({float(value)!r})) < bool {tolerance!r}) == count({expr})", [("{}", 1)], time)


def absent(expr, time="1d"):
    return expect(f"count({expr})", [], time)


def expect(expr, samples, time="1d"):
    return {
        "expr": expr,
        "eval_time": time,
        "exp_samples": [{"labels": labels, "value": value} for labels, value in samples],
    }


def all_finite(time="1d"):
    """Expects that no recorded series is NaN or infinite."""
    return expect(f"count({RECORDED}) - count({RECORDED} > -Inf < Inf) or vector(0)", [("{}", 0)], time)


def firing(alert, *label_sets, time="1d", state="firing"):
    """Expects that the alert fires for these label sets, given without the alert's own labels, and for no other."""
    query = f"count without (severity, window) (ALERTS{{alertname='{alert}',alertstate='{state}'}})"
    own = {"alertname": alert, "alertstate": state}
    return expect(query, [(selector("", own | labels), 1) for labels in label_sets], time)


def passes(folder, rules, *groups, every=EVERY):
    """Runs groups of (input series, expectations, expected alerts) against the rules, evaluated and scraped `every`."""
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed (Debian: prometheus)")
    (folder / "rules.yaml").write_text(rules, encoding="utf-8")
    tests = [
        {"interval": every, "input_series": list(inputs), "promql_expr_test": list(expected), "alert_rule_test": alerts}
        for inputs, expected, alerts in (group if len(group) == 3 else (*group, []) for group in groups)
    ]
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": every, "tests": tests}
    (folder / "test.yaml").write_text(json.dumps(document), encoding="utf-8")
    done = subprocess.run(
        ["promtool", "test", "rules", "test.yaml"], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def counted(
    cells, *, model="m", feature="sex", group="f", predictions=None, replicas=REPLICAS, samples=SAMPLES, corrections=()
) -> Iterable[dict]:
    """The counters of one group from its labelled cells {(predicted, actual): n}, spread over the replicas.

    `predictions` {predicted: n} is the sum of the cells, unless given. `corrections` lists (predicted, from, to, n).
    """
    labels = {"model_name": model, "model_version": "1", "sensitive_feature": feature, "group": group}
    if predictions is None:
        predictions = dict.fromkeys(sorted({predicted for predicted, _ in cells}), 0)
        for (predicted, _), n in cells.items():
            predictions[predicted] += n
    for predicted, n in predictions.items():
        yield from spread("plumbline_predictions_total", n, replicas, samples, **labels, predicted=predicted)
    for (predicted, actual), n in cells.items():
        outcome = labels | {"predicted": predicted, "actual": actual}
        yield from spread("plumbline_outcomes_total", n, replicas, samples, **outcome)
    for predicted, before, after, n in corrections:
        moved = labels | {"predicted": predicted, "from_actual": before, "to_actual": after}
        yield from spread("plumbline_outcome_corrections_total", n, replicas, samples, **moved)


def spread(name, total, replicas, samples, **labels):
    """A whole count, spread over the replicas as evenly as it goes."""
    for number, replica in enumerate(replicas):
        share = total // len(replicas) + (number < total % len(replicas))
        yield series(name, stepping(share, samples), replica, **labels)


def described(model="m", *, classes=("0", "1"), positive="1", favourable="0", references=(), z=1.645, samples=SAMPLES):
    """The info series of a model, the same from each replica; `references` are (sensitive feature, group)."""
    of_model = {"model_name": model, "model_version": "1"}
    for replica in REPLICAS:
        for name in classes:
            roles = {"positive": str(name == positive).lower(), "favourable": str(name == favourable).lower()}
            labels = of_model | {"class": name} | roles
            yield series("plumbline_class_info", constant(1, samples), replica, **labels)
        for feature, group in references:
            labels = of_model | {"sensitive_feature": feature}
            yield series("plumbline_reference_group_info", constant(1, samples), replica, **labels, group=group)
            for name in ("plumbline_simultaneous_z", "plumbline_simultaneous_difference_z"):
                yield series(name, constant(z, samples), replica, **labels)


def alive(samples=SAMPLES, step=21600):
    """The series of a service that is up and whose monitor counts at each scrape."""
    for replica in REPLICAS:
        yield series("plumbline_monitor_last_success_timestamp_seconds", f"0+{step}x{samples}", replica)
        yield series("plumbline_http_requests_in_flight", constant(0, samples), replica)
