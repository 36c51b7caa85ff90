"""`python -m service drift-job` on the records of real servers."""

import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest
import toy
from prometheus_client.parser import text_string_to_metric_families
from servers import running

ROWS = 400
REASON_WITHOUT_FEATURES = "PLUMBLINE_RECORD_FEATURES=true"


def instances(seed, hours):
    """Rows of the toy in which only `hour` is not what it always is."""
    dice = random.Random(seed)
    for _ in range(ROWS):
        entry_mode = dice.choice(["chip", "contactless", "online"])
        balance = dice.choice([None, dice.gauss(0, 1)])
        yield toy.ROW | {
            "amount": dice.random(),
            "hour": dice.choice(hours),
            "entry_mode": entry_mode,
            "balance": balance,
        }


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A repository: `toy` with unseen rows, `plain` without them."""
    root = tmp_path_factory.mktemp("models")
    toy.write_toy(root, name="plain")
    folder = toy.write_toy(root)
    lines = [json.dumps({"instance": row, "label": "fraud"}) for row in instances(0, range(12))]
    (folder / "replay.jsonl").write_text("\n".join(lines))
    toy.seal(folder)
    return root


def serve(folder, models, **settings):
    """The database of a server, ended, that was asked for ROWS rows in the afternoon and told what was true of them."""
    with running(folder / "server.log", models, **settings) as server:
        ids = [f"id {number}" for number in range(ROWS)]
        groups = [{"sex": "male" if number < 350 else "female"} for number in range(ROWS)]
        body = {"instances": list(instances(1, range(12, 24))), "ids": ids, "sensitive_features": groups}
        assert server.predict(body).status_code == 200
        outcomes = [{"id": id_, "label": "fraud"} for id_ in ids]
        joined = server.http.post("/v1/models/toy:outcomes", json={"outcomes": outcomes}).json()
        assert joined["joined"] == ROWS
        server.stop()
    return f"sqlite:///{folder}/server.db"


@pytest.fixture(scope="module")
def records(tmp_path_factory, models):
    """Records with features."""
    return serve(tmp_path_factory.mktemp("records"), models, record_features="true")


@pytest.fixture
def job(command, models, records):
    """Run the job on the packages and records of this module, unless told otherwise."""

    def run(*arguments, **settings):
        return command("drift-job", *arguments, **{"models": models, "records_url": records} | settings)

    return run


def told(run):
    """What a job that ended well says of each model."""
    assert run.returncode == 0, run.stderr
    return {verdict["model_name"]: verdict for verdict in json.loads(run.stdout)["models"]}


def test_drift_is_told_with_its_feature(job):
    """The classifier tells afternoons from mornings; the outcomes have not changed. Small groups are left out."""
    said = told(job())
    found = said["toy"]["domain_classifier"]
    assert found["state"] == "computed"
    assert found["auc"] > 0.99
    assert found["p_value"] == 1 / 1000
    assert (found["reference_rows"], found["current_rows"], found["recorded_rows"]) == (ROWS, ROWS, ROWS)
    assert [feature["feature"] for feature in found["features"]] == ["hour"]
    concept = said["toy"]["concept_drift"]
    streams = {(stream["sensitive_feature"], stream["group"]): stream for stream in concept["streams"]}
    assert {name: stream["n"] for name, stream in streams.items()} == {("", "all"): 400, ("sex", "male"): 350}
    assert all(stream["changes"] == [] for stream in streams.values())
    assert 0 < streams["", "all"]["error_ratio"] < 1
    assert concept["delta"] == 0.001
    assert said["plain"]["domain_classifier"]["reason"] == "the package has no replay.jsonl"
    assert said["plain"]["concept_drift"]["state"] == "insufficient"


def test_the_same_seed_says_the_same(job):
    """Over the same records, with the rows bounded."""
    arguments = ("--rows", 250, "--permutations", 99, "--seed", 5)
    first, second = told(job(*arguments)), told(job(*arguments))
    assert first == second
    assert first["toy"]["domain_classifier"]["current_rows"] == 250
    assert first["toy"]["domain_classifier"]["p_value"] == 0.01


def test_metrics_are_written_for_node_exporter(job, tmp_path):
    """A whole file in place of the old one, and nothing beside it."""
    file = tmp_path / "plumbline.prom"
    file.write_text("old")
    run = job("--output", file)
    assert run.returncode == 0, run.stderr
    assert run.stdout == f"2 model versions -> {file}\n"
    assert list(tmp_path.iterdir()) == [file]
    samples = {
        (sample.name, *sample.labels.values()): sample.value  # labels by name: group, model, version, sensitive feature
        for family in text_string_to_metric_families(file.read_text())
        for sample in family.samples
    }
    model = ("toy", "1")
    assert samples["plumbline_domain_classifier_auc", *model] > 0.99
    assert samples["plumbline_domain_classifier_p_value", *model] == 0.001
    assert samples["plumbline_domain_classifier_rows", *model, "current"] == ROWS
    assert samples["plumbline_concept_drift_changes", "all", *model, ""] == 0
    assert samples["plumbline_concept_outcomes", "male", *model, "sex"] == 350
    assert 0 < samples["plumbline_concept_error_ratio", "male", *model, "sex"] < 1
    assert samples["plumbline_drift_job_last_success_timestamp_seconds",] > 1.7e9
    assert not [key for key in samples if "plain" in key or "female" in key]


def test_promtool_accepts_the_metrics(job, tmp_path):
    """Names, units and help texts as Prometheus wants them."""
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed (Debian: prometheus)")
    file = tmp_path / "plumbline.prom"
    assert job("--output", file).returncode == 0
    command = ["promtool", "check", "metrics"]
    done = subprocess.run(command, input=file.read_text(), capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("file", ["plumbline.txt", "nowhere/plumbline.prom"])
def test_metrics_that_nobody_would_read_are_refused(job, tmp_path, file):
    """Another suffix, or a folder that is not there: exit code 2, no file."""
    run = job("--output", tmp_path / file)
    assert run.returncode == 2
    assert run.stderr
    assert "Traceback" not in run.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_recorded_features_outcomes_are_still_judged(job, models, tmp_path):
    """It says what is missing and which setting keeps it."""
    said = told(job(records_url=serve(tmp_path, models)))["toy"]
    assert said["domain_classifier"]["state"] == "unavailable"
    assert REASON_WITHOUT_FEATURES in said["domain_classifier"]["reason"]
    assert said["concept_drift"]["outcomes"] == ROWS


def test_few_recent_rows_say_nothing(job, models, records, tmp_path):
    """A version that nobody has asked; the outcomes of one that left the repository are still judged."""
    toy.write_toy(tmp_path, version=2)
    shutil.copy(models / "toy/1/replay.jsonl", tmp_path / "toy/2")
    toy.seal(tmp_path / "toy/2")
    run = job(models=tmp_path)
    assert run.returncode == 0, run.stderr
    old, new = json.loads(run.stdout)["models"]
    assert (old["model_version"], new["model_version"]) == ("1", "2")
    assert old["domain_classifier"]["reason"] == "the repository does not hold this version"
    assert old["concept_drift"]["outcomes"] == ROWS
    assert new["domain_classifier"]["state"] == "insufficient"
    assert new["concept_drift"]["state"] == "insufficient"


@pytest.mark.parametrize("content", ['{"label": "fraud"}', "[]", '{"instance": {"hour": "quetzal"}}', "quetzal"])
def test_unseen_rows_that_are_none_are_said_to_be(job, models, tmp_path, content):
    """Without repeating them; outcomes are still judged."""
    shutil.copytree(models / "toy", tmp_path / "toy")
    (tmp_path / "toy/1/replay.jsonl").write_text(content)
    toy.seal(tmp_path / "toy/1")
    said = told(job(models=tmp_path))["toy"]
    assert said["domain_classifier"] == {
        "state": "unavailable",
        "reason": "replay.jsonl does not hold instances of the model",
    }
    assert said["concept_drift"]["outcomes"] == ROWS


@pytest.mark.parametrize("library", ["river", "sklearn"])
def test_missing_libraries_are_said_to_be_missing(job, tmp_path, monkeypatch, library):
    """One line that names the extra, before anything is read."""
    (tmp_path / f"{library}.py").write_text(f"raise ModuleNotFoundError('no', name='{library}')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    run = job(records_url="sqlite:////nowhere/records.db")
    assert run.returncode == 2
    assert run.stderr == f"plumbline: drift-job needs the extra plumbline[drift], not installed here ({library})\n"


@pytest.mark.parametrize(
    ("arguments", "settings", "reason"),
    [
        (("--window", "2w"), {}, "--window: hours or days up to 180d are expected"),
        (("--recent", "8d"), {"retention_days": 7}, "--recent: hours or days up to 7d are expected"),
        (("--delta", "0"), {}, "--delta"),
        ((), {"records_url": "sqlite:////nowhere/records.db"}, "no such database"),
        ((), {"records_url": "postgresql+psycopg://user:quetzal@127.0.0.1:9/records"}, "does not answer"),
        ((), {"models": "/nowhere"}, "no such folder"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(job, arguments, settings, reason):
    """Exit code 2, no stack trace, no password."""
    run = job(*arguments, **settings)
    assert run.returncode == 2
    assert reason in run.stderr
    assert "quetzal" not in run.stderr
    assert "Traceback" not in run.stderr


def test_the_window_is_no_longer_than_records_are_kept(job):
    """Unless one is asked for, it is thirty days or less."""
    windows = [json.loads(job(retention_days=days).stdout)["window"] for days in (7, 31)]
    assert windows == ["7d", "30d"]


def test_the_job_leaves_the_records_alone(job, records):
    """Byte for byte."""
    path = Path(records.removeprefix("sqlite:///"))
    before = path.read_bytes()
    told(job())
    assert path.read_bytes() == before
