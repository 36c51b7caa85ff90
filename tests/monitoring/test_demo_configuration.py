"""docker/: what the files of the demonstration name is there, and the tools that read them find no fault."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest
import yaml
from servers import environment

from service.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
SERVICES = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))["services"]
PROMETHEUS = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
# [(path on this machine, path in the container)] of each service; named volumes have neither dot nor slash.
MOUNTS = {
    name: [
        ((DOCKER / volume.split(":")[0]).resolve(), PurePosixPath(volume.split(":")[1]))
        for volume in service.get("volumes", ())
        if volume.startswith(".")
    ]
    for name, service in SERVICES.items()
}
BUILT = {name for name, service in SERVICES.items() if "build" in service}


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_is_in_the_repository_and_cannot_be_written(name):
    """Docker would make an empty folder of a path that is not there."""
    assert [source for source, _ in MOUNTS[name] if not source.exists()] == []
    assert all(source.is_relative_to(ROOT) for source, _ in MOUNTS[name])
    assert all(volume.endswith(":ro") for volume in SERVICES[name].get("volumes", ()) if volume.startswith("."))


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_bounded_and_unprivileged(name):
    """On this machine's loopback alone, without capabilities, and with an end to what it may take."""
    service = SERVICES[name]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "cpus", "pids_limit", "restart"} <= service.keys()
    assert name in BUILT or re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", service["image"])
    assert name in BUILT or service["healthcheck"]["test"][0] == "CMD"


def test_the_image_is_built_from_files_that_the_build_may_see():
    """Each COPY from the repository names a path that is there and that .dockerignore lets through."""
    dockerfile = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    copied = [
        path for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, re.MULTILINE) for path in line.split()[:-1]
    ]
    assert len(copied) == 3
    assert all((ROOT / path).exists() for path in copied)
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert sorted(line[1:] for line in ignored if line.startswith("!")) == sorted(copied)
    assert "ORT_DISABLE_TELEMETRY=1" in dockerfile
    assert re.search(r"^USER \d+:\d+$", dockerfile, re.MULTILINE)
    for name in BUILT:
        assert (DOCKER / SERVICES[name]["build"]["context"] / SERVICES[name]["build"]["dockerfile"]).is_file()


def test_settings_of_the_service_are_settings():
    """A misspelt one would stop the container at its start."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    dockerfile = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    assert set(re.findall(rf"\b{PREFIX}\w+", dockerfile)) | SERVICES["service"]["environment"].keys() <= known


def test_the_replay_command_is_understood():
    """By the command line itself: what it cannot know is refused before anything is sent."""
    command = [*SERVICES["replay"]["command"], "--url", "http://127.0.0.1:1", "--count", "1"]
    result = subprocess.run(
        [sys.executable, "-m", "service", *command],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == 1, result.stderr
    assert "1 x error" in result.stdout
    target = next(option for option in command if option.startswith("--url=")).removeprefix("--url=http://")
    assert target in targets_of_scrapes()


def targets_of_scrapes():
    return [
        target for job in PROMETHEUS["scrape_configs"] for group in job["static_configs"] for target in group["targets"]
    ]


def test_prometheus_asks_containers_that_there_are():
    """By the names that the network of the demonstration knows."""
    asked = targets_of_scrapes() + PROMETHEUS["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
    assert asked == ["service:8000", "localhost:9090", "alertmanager:9093"]
    assert {address.split(":")[0] for address in asked} - {"localhost"} <= SERVICES.keys()


def test_prometheus_takes_its_configuration_and_every_rule_file(tmp_path):
    """Laid out as the container sees them: the short window's and the day's."""
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed (Debian: prometheus)")
    for source, target in MOUNTS["prometheus"]:
        place = tmp_path / target.relative_to("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, place)
    config = tmp_path / "etc" / "prometheus" / "prometheus.yml"
    checked = subprocess.run(["promtool", "check", "config", config], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    for file in ("short/fairness-5m.yaml", "long/fairness-1d.yaml"):
        assert f"rules/{file}" in checked.stdout
    assert "-7d" not in checked.stdout


def test_rendering_the_rules_of_the_demonstration_again_changes_nothing():
    """`make demo-rules` writes what is committed."""
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").split("\ndemo-rules:")[1].split("\n\n")[0]
    commands = [line.split("python ")[1].split(" > ") for line in recipe.splitlines()[1:]]
    assert sorted(ROOT / target for _, target in commands) == sorted((DOCKER / "prometheus" / "rules").iterdir())
    for arguments, target in commands:
        rendered = subprocess.run([sys.executable, *shlex.split(arguments)], cwd=ROOT, capture_output=True, check=True)
        assert rendered.stdout == (ROOT / target).read_bytes()


def test_alertmanager_takes_its_configuration():
    """And would tell somebody if a receiver were added where the comment says."""
    if not shutil.which("amtool"):
        pytest.skip("amtool is not installed (Debian: prometheus-alertmanager)")
    file = DOCKER / "alertmanager" / "alertmanager.yml"
    checked = subprocess.run(["amtool", "check-config", file], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_receiver_that_the_comment_shows_is_one(tmp_path):
    """Uncommented, Alertmanager takes it."""
    if not shutil.which("amtool"):
        pytest.skip("amtool is not installed (Debian: prometheus-alertmanager)")
    text = (DOCKER / "alertmanager" / "alertmanager.yml").read_text(encoding="utf-8")
    example = re.findall(r"^  # (  .+)$", text, re.MULTILINE)
    assert example[0].strip() == "webhook_configs:"
    (tmp_path / "alertmanager.yml").write_text(text + "\n".join(f"  {line}" for line in example) + "\n")
    file = tmp_path / "alertmanager.yml"
    checked = subprocess.run(["amtool", "check-config", file], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    (receiver,) = yaml.safe_load(file.read_text())["receivers"]
    assert receiver["webhook_configs"][0]["send_resolved"]


def test_grafana_finds_its_data_source_and_dashboards():
    """Under the uid that dashboards name, and in the folder that is mounted."""
    provisioning = DOCKER / "grafana" / "provisioning"
    sources = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert {source["uid"]: source["url"] for source in sources} == {
        "prometheus": "http://prometheus:9090",
        "alertmanager": "http://alertmanager:9093",
    }
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "plumbline.yaml").read_text())["providers"]
    home = PurePosixPath(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == provider["options"]["path"]
    mounted = {target: source for source, target in MOUNTS["grafana"]}
    assert (mounted[home.parent] / home.name).is_file()
