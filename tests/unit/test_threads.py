"""CPUs by affinity and by cgroup quota, versions 1 and 2."""

import os
from pathlib import Path

import pytest

from service.runtime.threads import available_cpus

AFFINITY = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("content", "cpus"),
    [
        ("max 100000", AFFINITY),
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("150000 100000", min(2, AFFINITY)),
        ("6400000 100000", min(64, AFFINITY)),
        ("garbage", AFFINITY),
    ],
)
def test_version_2_quota_is_rounded_up(tmp_path: Path, content: str, cpus: int) -> None:
    """`cpu.max` holds quota and period in microseconds."""
    (tmp_path / "cpu.max").write_text(content)
    assert available_cpus(tmp_path) == cpus


@pytest.mark.parametrize(("quota", "cpus"), [("-1", AFFINITY), ("100000", 1)])
def test_version_1_quota_is_read_where_there_is_no_version_2(tmp_path: Path, quota: str, cpus: int) -> None:
    """-1 means no limit."""
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000")
    assert available_cpus(tmp_path) == cpus


def test_without_cgroups_affinity_decides(tmp_path: Path) -> None:
    """A machine without cgroups has no quota."""
    assert available_cpus(tmp_path) == AFFINITY
