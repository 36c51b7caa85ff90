"""The README says what the code does."""

import re
from pathlib import Path

from service.settings import PREFIX, Settings

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_settings_table_is_that_of_the_code() -> None:
    """Every setting stands there with its default, and no other."""
    documented = dict(re.findall(rf"^\| `({PREFIX}\w+)` \| `([^`]*)` \|", README, re.MULTILINE))
    assert documented == {PREFIX + name.upper(): str(field.default) for name, field in Settings.model_fields.items()}


def test_every_series_of_the_service_is_documented() -> None:
    """A metric that nobody can look up is noise."""
    code = "".join(path.read_text(encoding="utf-8") for path in (Path(__file__).parents[2] / "service").rglob("*.py"))
    series = set(re.findall(r'"(plumbline_[a-z_]+)"', code))
    assert series
    assert not [name for name in series if name not in README]
