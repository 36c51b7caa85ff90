"""`/v2/repository`: loading and unloading on request, in Triton's shape."""

import asyncio
import json
import shutil

import httpx
import pytest
import toy

UNKNOWN = "Request for unknown model: there is no package of it in models/"


def test_a_new_version_is_served_when_it_is_loaded(operator) -> None:
    """Not before; its series exist at 0 from the start, and its package is in the records."""
    operator.write(1, bias=-4.0)
    client = operator.serve()
    old = operator.answer()
    operator.write(2, bias=-3.0)
    assert operator.answer() == old
    response = operator.load()
    assert (response.status_code, response.json()) == (200, {})
    found = (
        "plumbline_predictions_total",
        {
            "model_name": "toy",
            "model_version": "2",
            "sensitive_feature": "sex",
            "group": "male",
            "predicted": "fraud",
        },
    )
    assert operator.metric(found[0], **found[1]) == 0
    assert operator.metric("plumbline_batch_rows_count", model_name="toy", model_version="2") == 0
    new = operator.answer()
    assert new[0] == "2"
    assert new[1] > old[1]
    assert operator.index() == {"toy/1": ("READY", ""), "toy/2": ("READY", "")}
    assert operator.metric("plumbline_batch_rows_count", model_name="toy", model_version="2") == 1
    assert client.get("/v1/models/toy/fairness?version=2").status_code == 200


def test_a_new_name_is_served_when_it_is_loaded(operator) -> None:
    """A model that was not there at the start."""
    operator.write()
    client = operator.serve()
    operator.write(name="other")
    assert client.predict(toy.request(), model="other").status_code == 404
    assert operator.load("other").status_code == 200
    assert client.predict(toy.request(), model="other").status_code == 200
    assert client.get("/v1/models").json() == {"models": ["other", "toy"]}


def test_a_rebuilt_version_is_exchanged(operator) -> None:
    """The same name and number, another package: another digest, another answer."""
    operator.write(bias=-4.0)
    operator.serve()
    version, old = operator.answer()
    operator.write(bias=-3.0)
    operator.load()
    assert operator.answer()[0] == version
    assert operator.answer()[1] > old
    assert operator.metric("plumbline_model_ready", model_name="toy", model_version="1") == 1


def test_what_has_not_changed_is_not_loaded_again(operator) -> None:
    """Nor is a package whose files were only touched."""
    folder = operator.write()
    client = operator.serve()
    operator.answer()
    (folder / "manifest.json").touch()
    assert operator.load().status_code == 200
    labels = {"model_name": "toy", "model_version": "1", "sensitive_feature": "sex", "group": "unknown"}
    counted = sum(
        operator.metric("plumbline_predictions_total", predicted=p, **labels) for p in ("fraud", "legitimate")
    )
    assert counted == 1
    assert client.get("/v1/models/toy").json()["versions"] == ["1"]


def test_a_version_that_is_no_longer_there_goes(operator) -> None:
    """404 for its number; its series are gone; fairness is known from the records, drift is not."""
    operator.write(1)
    operator.write(2)
    client = operator.serve(suppress_small_cells=False)
    operator.answer(ids=["a"], sensitive_features=[{"sex": "male"}])
    operator.remove(2)
    assert operator.load().status_code == 200
    assert operator.answer()[0] == "1"
    assert client.predict(toy.request(), model="toy/versions/2").status_code == 404
    operator.until_gone(2)
    assert operator.index() == {"toy/1": ("READY", "")}
    report = client.get("/v1/models/toy/fairness?version=2").json()
    groups = {group["group"]: group["n"] for group in report["sensitive_features"][0]["groups"]}
    assert groups["male"] == 1
    assert client.get("/v1/models/toy/drift?version=2").status_code == 404


def test_outcomes_of_a_version_that_has_gone_count_under_it(operator) -> None:
    """In the reports, which are made from the records."""
    operator.write(1)
    operator.write(2)
    client = operator.serve(suppress_small_cells=False)
    operator.answer(ids=["a"], sensitive_features=[{"sex": "male"}])
    operator.remove(2)
    operator.load()
    operator.until_gone(2)
    sent = {"outcomes": [{"id": "a", "label": "fraud"}]}
    joined = client.request("POST", "/v1/models/toy:outcomes", json=sent).json()
    assert joined["joined"] == 1
    report = client.get("/v1/models/toy/fairness?version=2").json()
    [male] = [group for group in report["sensitive_features"][0]["groups"] if group["group"] == "male"]
    assert male["labelled"] == 1


def test_a_retry_after_a_reload_is_answered_as_before(operator) -> None:
    """By the version that decided, also where it has gone."""
    operator.write(1, bias=-4.0)
    operator.serve()
    before = operator.answer(ids=["a"])
    operator.write(2, bias=-3.0)
    operator.load()
    assert operator.answer(ids=["b"])[1] > before[1]
    answered = operator.client.predict(toy.request(ids=["a"])).json()["predictions"][0]
    assert (answered["model_version"], answered["probability"]) == before


def test_an_unloaded_model_is_unknown_until_it_is_loaded_again(operator) -> None:
    """404, as nothing of that name is served; the index knows it. The others are served, and the service is ready."""
    operator.write()
    operator.write(name="stays")
    client = operator.serve()
    assert operator.unload(json={"parameters": {"unload_dependents": True}}).json() == {}
    response = client.predict(toy.request())
    assert (response.status_code, response.json()) == (404, {"error": "Request for unknown model: 'toy' is unloaded"})
    assert client.get("/v1/models").json() == {"models": ["stays"]}
    assert operator.index() == {"stays/1": ("READY", ""), "toy/1": ("UNAVAILABLE", "unloaded")}
    assert operator.index(json={"ready": True}) == {"stays/1": ("READY", "")}
    assert operator.ready()
    operator.until_gone(1)
    assert operator.unload().status_code == 200
    assert operator.load().status_code == 200
    assert operator.answer()[0] == "1"
    assert operator.index()["toy/1"] == ("READY", "")


def test_an_unloaded_model_need_not_have_its_pinned_version(operator) -> None:
    """It was unloaded on purpose, and the others are ready."""
    operator.write()
    operator.write(name="stays")
    operator.serve(default_versions="toy=1")
    operator.unload()
    assert operator.ready()


def test_an_unloaded_model_may_have_been_refused_at_the_start(operator) -> None:
    """The way out where it cannot be repaired: nothing is said of it any more, until it is loaded again."""
    (operator.write(2) / "model.onnx").unlink()
    operator.write(1)
    operator.write(name="stays")
    operator.serve()
    assert not operator.ready()
    assert operator.unload().status_code == 200
    assert operator.ready()
    assert operator.metric("plumbline_model_refused", model_name="toy", model_version="2") is None
    assert operator.index()["toy/2"] == ("UNAVAILABLE", "unloaded")
    assert operator.load().status_code == 400
    assert operator.metric("plumbline_model_refused", model_name="toy", model_version="2") == 1
    assert operator.answer()[0] == "1"


def test_without_any_model_the_service_is_not_ready(operator) -> None:
    """There is nothing to send a request to."""
    operator.write()
    operator.serve()
    operator.unload()
    assert not operator.ready()
    operator.load()
    assert operator.ready()


def test_names_that_are_not_there_are_unknown(operator) -> None:
    """To load and to unload; nothing of the name comes back."""
    operator.write()
    operator.serve()
    for name in ("nothing", "..", "%2e%2e", "toy%2f1"):
        for response in (operator.load(name), operator.unload(name)):
            assert response.status_code == 404
            assert response.json().keys() == {"error"}
    assert operator.load("nothing").json() == {"error": UNKNOWN}


def test_a_model_whose_folder_has_gone_is_kept_until_it_is_unloaded(operator) -> None:
    """Loading what is not there fails, as it does in Triton."""
    operator.write()
    operator.serve()
    shutil.rmtree(operator.models / "toy")
    assert operator.load().status_code == 404
    assert operator.answer()[0] == "1"
    assert operator.unload().status_code == 200


def test_callers_load_and_unload_only_where_the_operator_allows_it(operator) -> None:
    """An open port is for predictions; the index can be read."""
    operator.write()
    operator.serve(repository_control=False)
    for response in (operator.load(), operator.unload()):
        assert response.status_code == 403
        assert "PLUMBLINE_REPOSITORY_CONTROL" in response.json()["error"]
    assert operator.index() == {"toy/1": ("READY", "")}
    assert operator.answer()[0] == "1"


@pytest.mark.parametrize(
    "content",
    [
        b"[",
        b"[]",
        b'{"parameters": 1}',
        b'{"parameters": {"config": "{}"}}',
        b'{"parameters": {"file:1/m": "AA"}}',
        b"{}x",
    ],
)
def test_packages_come_from_the_folder_not_from_requests(operator, content) -> None:
    """Triton's parameters for sending a model are refused, as is what is no object."""
    operator.write()
    operator.serve()
    response = operator.load(content=content)
    assert response.status_code == 400
    assert operator.load(content=b"x" * 70_000).status_code == 413
    assert operator.answer()[0] == "1"


@pytest.mark.parametrize("content", [b'{"ready": 1}', b'{"read": true}', b"nothing"])
def test_an_index_of_something_else_is_refused(operator, content) -> None:
    """With the place and what is expected."""
    operator.write()
    response = operator.serve().request("POST", "/v2/repository/index", content=content)
    assert response.status_code == 400
    assert response.json().keys() == {"error"}


def test_loads_at_once_do_what_one_does(operator) -> None:
    """One after the other; the last ones find nothing to do."""
    operator.write(1)
    client = operator.serve()
    operator.write(2)

    async def together():
        loads = [client.http.post("/v2/repository/models/toy/load") for _ in range(5)]
        unknown = client.http.post("/v2/repository/models/nothing/load")
        return await asyncio.gather(*loads, unknown)

    statuses = [response.status_code for response in client.run(together())]
    assert statuses == [200] * 5 + [404]
    assert operator.index() == {"toy/1": ("READY", ""), "toy/2": ("READY", "")}
    assert operator.answer()[0] == "2"


def test_a_caller_who_leaves_does_not_stop_a_load(operator) -> None:
    """It is done all the same."""
    operator.write(1)
    client = operator.serve()
    operator.write(2)

    async def impatient():
        loading = asyncio.create_task(client.http.post("/v2/repository/models/toy/load"))
        await asyncio.sleep(0)
        loading.cancel()
        with pytest.raises((asyncio.CancelledError, httpx.HTTPError)):
            await loading

    client.run(impatient())
    assert operator.load().status_code == 200
    assert operator.answer()[0] == "2"


def test_requests_before_and_after_agree_with_the_version_they_name(operator) -> None:
    """Those of one turn of the event loop with a load among them."""
    operator.write(1, bias=-4.0)
    client = operator.serve()
    first = operator.answer()
    operator.write(2, bias=-3.0)

    async def mixed():
        loading = asyncio.create_task(client.http.post("/v2/repository/models/toy/load"))
        answers = []
        while not loading.done():
            answers.append(
                await client.http.post(
                    "/v1/models/toy:predict",
                    content=json.dumps(toy.request()),
                    headers={"content-type": "application/json"},
                )
            )
        assert (await loading).status_code == 200
        return answers

    answers = [response.json() for response in client.run(mixed())]
    second = operator.answer()
    found = {(answer["model_version"], answer["predictions"][0]["probability"]) for answer in answers}
    assert found <= {first, second}
    assert first in found


def test_load_without_the_folder_says_come_back(operator) -> None:
    """Where it lies is the operator's to know, from the log."""
    operator.write()
    operator.serve()
    aside = operator.models.rename(operator.models.parent / "aside")
    response = operator.load()
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json() == {"error": "load: the folder of the packages cannot be read; the log says why"}
    aside.rename(operator.models)
    assert operator.load().status_code == 200
