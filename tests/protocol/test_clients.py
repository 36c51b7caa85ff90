"""Clients of others, unmodified, each in its own words: tests/protocol/with_*.py."""

import re
from pathlib import Path

import pytest

SCRIPTS = ("with_tritonclient.py", "with_kserve.py")
CHECKS = [
    (script, name)
    for script in SCRIPTS
    for name in re.findall(r"^@check\ndef (\w+)", Path(__file__).with_name(script).read_text(), re.MULTILINE)
]


@pytest.mark.parametrize(("script", "name"), CHECKS, ids=[f"{script}-{name}" for script, name in CHECKS])
def test_clients_of_others_are_answered(clients, script, name):
    assert clients(script)[name] == "passed"
