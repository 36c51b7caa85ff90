"""Every setting of the service, read once from `PLUMBLINE_*` environment variables into one frozen object."""

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.errors import ConfigurationError

PREFIX = "PLUMBLINE_"
# Read by the test suite, not by the service.
TEST_PREFIX = "PLUMBLINE_TEST_"
PINNED = r"[A-Za-z0-9][A-Za-z0-9._-]*=[1-9][0-9]{0,17}"
# Less is a mistake in the unit.
LEAST_GPU_MEMORY_BYTES = 64 * 2**20


class Settings(BaseSettings):
    """What the environment says, typed and bounded. Units are in the names."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    models: Path = Field(default=Path("models/repository"), description="folder of packages, NAME/VERSION/")
    default_versions: str = Field(
        default="",
        pattern=rf"^({PINNED}(,{PINNED})*)?$",
        description="versions that answer where none is named, such as transaction=1,diagnosis=2; else the highest",
    )
    poll_seconds: float = Field(
        default=0.0, ge=0, le=86_400, description="between looks for changed packages; 0 is off"
    )
    repository_control: bool = Field(default=False, description="let callers load and unload models")
    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda:(0|[1-9][0-9]?))$",
        description="where models run: `auto` is CUDA if there is one, `cpu`, or `cuda:N`",
    )
    gpu_memory_bytes: int = Field(
        default=0,
        ge=0,
        lt=2**63,
        description="what all models together may take of a GPU to run; 0 is no limit",
    )
    threads: int = Field(default=0, ge=0, le=1024, description="threads of one run; 0 takes the CPU quota")
    server_name: str = Field(
        default="plumbline",
        min_length=1,
        max_length=100,
        description="what `/v2` reports; a few clients insist on `triton`",
    )

    max_instances: int = Field(default=1000, ge=1, le=100_000, description="instances in one request")
    max_body_bytes: int = Field(default=10 * 2**20, ge=1, description="size of one request body")
    max_batch_rows: int = Field(default=256, ge=1, le=2**20, description="rows of one run of a model")
    max_explain_rows: int = Field(default=2048, ge=1, description="rows that may wait for an explanation, all models")
    max_queue_rows: int = Field(default=4096, ge=1, description="rows that may wait for one model")
    max_scorings: int = Field(default=2, ge=1, le=64, description="files that may be scored at the same time")
    max_score_batch_bytes: int = Field(
        default=64 * 2**20, ge=2**16, description="size of one record batch, or one page of Parquet, to be scored"
    )
    max_spool_bytes: int = Field(default=2 * 2**30, ge=1, description="size of one Parquet file to be scored")
    request_timeout_seconds: float = Field(default=10.0, gt=0, le=3600, description="from arrival to answer, else 504")
    drain_seconds: float = Field(default=0.0, ge=0, le=300, description="from SIGTERM, unready, to closing the port")
    shutdown_seconds: int = Field(default=30, ge=1, le=3600, description="time that running requests get to finish")

    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="lowest level logged")
    log_format: Literal["auto", "json", "console"] = Field(default="auto", description="auto is console on a terminal")
    log_requests: bool = Field(default=False, description="log answered requests too, not only refused and failed ones")

    records_url: str = Field(default="sqlite:///plumbline.db", description="database of the audit records")
    audit: Literal["before_response", "after_response", "off"] = Field(
        default="before_response", description="when the audit row is committed"
    )
    audit_sync: Literal["normal", "full"] = Field(
        default="normal", description="normal survives a killed process, full a power cut"
    )
    max_audit_rows: int = Field(default=20_000, ge=1, description="rows that may wait to be recorded")
    record_features: bool = Field(default=False, description="keep the posted features in the records")
    record_explanations: bool = Field(default=False, description="keep the explanations in the records")
    outcome_horizon_days: int = Field(default=90, ge=1, description="how long an outcome may follow its prediction")
    retention_days: int = Field(default=180, ge=1, description="how long audit records are kept")
    report_timeout_seconds: float = Field(default=10.0, gt=0, le=600, description="time to make a report, else 504")
    max_series: int = Field(
        default=5000, ge=1, description="series about groups and features that one model version may export"
    )
    explain_sample_ratio: float = Field(
        default=0.01, ge=0, le=1, description="share of predictions explained for the monitor alone, at lowest priority"
    )
    suppress_small_cells: bool = Field(default=True, description="hide counts of 1 to 10 in reports")

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.max_queue_rows < self.max_instances:
            raise ValueError("max_queue_rows must hold one request of max_instances")
        if 0 < self.gpu_memory_bytes < LEAST_GPU_MEMORY_BYTES:
            raise ValueError(f"gpu_memory_bytes must be 0 or at least {LEAST_GPU_MEMORY_BYTES}")
        if self.max_audit_rows < self.max_instances:
            raise ValueError("max_audit_rows must hold one request of max_instances")
        if len(self.pinned) < len(self.default_versions.split(",")) and self.default_versions:
            raise ValueError("default_versions must name each model once")
        return self

    @property
    def pinned(self) -> dict[str, int]:
        """`default_versions`: model name -> version."""
        pairs = (part.split("=") for part in self.default_versions.split(",") if part)
        return {name: int(version) for name, version in pairs}


def read_settings(**overrides: object) -> Settings:
    """Settings from the environment; `overrides` (command-line flags) win where they are not None.

    Raises ConfigurationError for a value out of bounds and for any unknown `PLUMBLINE_*` name: a misspelt variable
    would otherwise be ignored in silence.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    unknown = [name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known]
    if unknown := sorted(name for name in unknown if not name.startswith(TEST_PREFIX)):
        raise ConfigurationError(f"unknown settings: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = PREFIX + str(first["loc"][0]).upper() if first["loc"] else "settings"
        raise ConfigurationError(f"{name}: {first['msg']}") from error
