"""Several versions at once: which one answers, and what is said of it."""

import pytest
import toy

from service.errors import ConfigurationError
from service.settings import read_settings


def test_the_highest_version_answers_unless_another_one_is_pinned(operator) -> None:
    """Both by their number."""
    operator.write(1, bias=-4.0)
    operator.write(2, bias=-3.0)
    client = operator.serve(default_versions="toy=1")
    assert operator.answer()[0] == "1"
    assert operator.answer("toy/versions/2")[0] == "2"
    described = client.get("/v1/models/toy").json()
    assert (described["version"], described["versions"]) == ("1", ["1", "2"])
    operator.write(3)
    assert operator.load().status_code == 200
    assert operator.answer()[0] == "1"
    assert client.get("/v1/models/toy").json()["versions"] == ["1", "2", "3"]


def test_a_pinned_version_that_is_not_loaded_is_not_ready(operator) -> None:
    """Never another one in its place; who names a version is answered, and the description of the API is made."""
    operator.write(1)
    client = operator.serve(default_versions="toy=2,other=7")
    response = client.predict(toy.request())
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert operator.answer("toy/versions/1")[0] == "1"
    assert client.get("/v2/models/toy/versions/1").json()["versions"] == ["1"]
    assert [each["version"] for each in client.get("/v2/models/toy/stats").json()["model_stats"]] == ["1"]
    reasons = client.get("/v2/health/ready").json()["error"]
    assert reasons == "toy: its default version, 2, is not loaded; other: its default version, 7, is not loaded"
    paths = client.get("/openapi.json").json()["paths"]
    assert "/v1/models/toy/versions/1:predict" in paths
    assert "/v1/models/toy:predict" not in paths
    operator.write(2)
    operator.load()
    assert operator.answer()[0] == "2"
    assert "toy" not in client.get("/v2/health/ready").json()["error"]


@pytest.mark.parametrize(
    "text", ["toy", "toy=", "toy=0", "toy=01", "toy=latest", "=1", "toy=1,toy=2", "toy=1,", "t y=1"]
)
def test_pins_that_say_nothing_or_two_things_stop_the_start(text) -> None:
    """A misspelt pin would let another version answer."""
    with pytest.raises(ConfigurationError):
        read_settings(default_versions=text)


def test_the_description_of_the_api_follows_what_is_loaded(operator) -> None:
    """A version that came is in it, one that went is not."""
    operator.write(1)
    client = operator.serve()
    paths = {f"/v1/models/toy/versions/{version}:predict" for version in (1, 2)}
    assert paths & client.get("/openapi.json").json()["paths"].keys() == {"/v1/models/toy/versions/1:predict"}
    operator.write(2)
    operator.remove(1)
    operator.load()
    assert paths & client.get("/openapi.json").json()["paths"].keys() == {"/v1/models/toy/versions/2:predict"}
