"""Settings from the environment: known names within bounds, everything else stops the start."""

import pytest

from service.errors import ConfigurationError
from service.settings import Settings, read_settings


def test_a_setting_is_read_from_its_variable(monkeypatch, tmp_path):
    """The prefix and the field's name."""
    monkeypatch.setenv("PLUMBLINE_MODELS", str(tmp_path))
    monkeypatch.setenv("PLUMBLINE_MAX_INSTANCES", "17")
    settings = read_settings()
    assert settings.models == tmp_path
    assert settings.max_instances == 17


def test_a_flag_wins_over_the_environment_and_an_absent_flag_does_not(monkeypatch):
    """What was typed last counts."""
    monkeypatch.setenv("PLUMBLINE_PORT", "1234")
    assert read_settings(port=0).port == 0
    assert read_settings(port=None).port == 1234


@pytest.mark.parametrize("name", ["PLUMBLINE_PROT", "PLUMBLINE_", "PLUMBLINE_MAX_INSTANCE", "plumbline_prot"])
def test_a_misspelt_name_stops_the_start(monkeypatch, name):
    """It would otherwise be ignored in silence; the message names it and the known ones, never its value."""
    monkeypatch.setenv(name, "hunter2")
    with pytest.raises(ConfigurationError, match=name) as caught:
        read_settings()
    assert "PLUMBLINE_MAX_INSTANCES" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_names_for_the_test_suite_are_ignored(monkeypatch):
    """They are not the service's."""
    monkeypatch.setenv("PLUMBLINE_TEST_REQUIRE_ALL", "1")
    monkeypatch.setenv("PLUMBLINE_TEST_ANYTHING", "1")
    assert read_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("PORT", "http"),
        ("PORT", ""),
        ("DEVICE", "gpu"),
        ("DEVICE", "cuda"),
        ("DEVICE", "cuda:-1"),
        ("DEVICE", "cuda:01"),
        ("DEVICE", "cuda:100"),
        ("DEVICE", "cuda:0,1"),
        ("DEVICE", "CUDA:0"),
        ("DEVICE", "auto "),
        ("DEVICE", ""),
        ("GPU_MEMORY_BYTES", "-1"),
        ("GPU_MEMORY_BYTES", "4GiB"),
        ("THREADS", "-1"),
        ("MAX_INSTANCES", "0"),
        ("MAX_BODY_BYTES", "0"),
        ("MAX_BATCH_ROWS", "0"),
        ("MAX_QUEUE_ROWS", "0"),
        ("REQUEST_TIMEOUT_SECONDS", "0"),
        ("REQUEST_TIMEOUT_SECONDS", "inf"),
        ("REQUEST_TIMEOUT_SECONDS", "nan"),
        ("DRAIN_SECONDS", "-1"),
        ("DRAIN_SECONDS", "nan"),
        ("SHUTDOWN_SECONDS", "0"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("AUDIT", "sometimes"),
        ("AUDIT_SYNC", "half"),
        ("SUPPRESS_SMALL_CELLS", "perhaps"),
        ("RETENTION_DAYS", "0"),
    ],
)
def test_a_value_out_of_bounds_stops_the_start_and_is_named(monkeypatch, name, value):
    """The message names the variable as it was written."""
    monkeypatch.setenv(f"PLUMBLINE_{name}", value)
    with pytest.raises(ConfigurationError, match=f"^PLUMBLINE_{name}: "):
        read_settings()


def test_a_queue_must_hold_the_largest_request(monkeypatch):
    """Otherwise that request would be refused for ever as if the service were busy."""
    monkeypatch.setenv("PLUMBLINE_MAX_INSTANCES", "100")
    monkeypatch.setenv("PLUMBLINE_MAX_QUEUE_ROWS", "99")
    with pytest.raises(ConfigurationError, match="max_queue_rows"):
        read_settings()


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda:0", "cuda:7", "cuda:15"])
def test_every_kind_of_device_is_understood(monkeypatch, device):
    """Whether it is there is found out when the models are loaded."""
    monkeypatch.setenv("PLUMBLINE_DEVICE", device)
    assert read_settings().device == device


def test_a_share_of_a_gpu_that_can_only_be_a_mistake_stops_the_start(monkeypatch):
    """As when the value was meant in megabytes."""
    monkeypatch.setenv("PLUMBLINE_GPU_MEMORY_BYTES", "4096")
    with pytest.raises(ConfigurationError, match="gpu_memory_bytes must be 0 or at least 67108864"):
        read_settings()


def test_the_names_of_the_design_are_known(monkeypatch):
    """Every name in DESIGN.md, also before the part that uses it exists."""
    names = (
        "MODELS HOST PORT RECORDS_URL AUDIT AUDIT_SYNC OUTCOME_HORIZON_DAYS RETENTION_DAYS SUPPRESS_SMALL_CELLS DEVICE "
        "DRAIN_SECONDS MAX_INSTANCES MAX_BODY_BYTES"
    )
    assert set(names.lower().split()) <= Settings.model_fields.keys()


def test_settings_cannot_be_changed_after_the_start():
    """One frozen object."""
    with pytest.raises(ValueError, match="frozen"):
        read_settings().port = 1
