"""The README says what the code does."""

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from service.app import create_app
from service.settings import PREFIX, Settings, read_settings

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_settings_table_is_that_of_the_code() -> None:
    """Every setting stands there with its default, and no other."""
    documented = dict(re.findall(rf"^\| `({PREFIX}\w+)` \| `([^`]*)` \|", README, re.MULTILINE))
    assert documented == {PREFIX + name.upper(): str(field.default) for name, field in Settings.model_fields.items()}


def test_every_series_of_the_service_is_documented(tmp_path) -> None:
    """A metric that nobody can look up is noise."""
    app = create_app(read_settings(models=tmp_path, records_url=f"sqlite:///{tmp_path}/records.db"))
    families = text_string_to_metric_families(app.state.service.scrape().decode())
    series = {family.name + "_total" * (family.type == "counter") for family in families}
    assert len(series) > 50
    assert not [name for name in series if f"`{name}`" not in README]
