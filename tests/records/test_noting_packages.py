"""Packages that come while the service runs are noted before they decide, once."""

import asyncio

from sqlalchemy import select

from service.records.records import Records
from service.records.tables import packages


def test_a_package_is_noted_once(url, manifests) -> None:
    """However often it comes, also by two replicas at once."""
    first, second = manifests

    async def live():
        replicas = [Records(url, sync="normal", audit="before_response", max_rows=100) for _ in range(2)]
        for records in replicas:
            records.open([first])
        await asyncio.gather(*(records.note(manifest) for records in replicas for manifest in (second, first, second)))
        with replicas[0].engine.connect() as connection:
            noted = connection.execute(select(packages.c.model_version, packages.c.manifest)).all()
        for records in replicas:
            await records.close(5)
        return noted

    noted = asyncio.run(live())
    assert sorted(version for version, _ in noted) == ["10", "9"]
    assert {text for _, text in noted} == {first.to_json(), second.to_json()}
