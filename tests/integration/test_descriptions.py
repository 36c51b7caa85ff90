"""What the service says about its models: lists, descriptions, cards, health, and the OpenAPI document."""

import pytest
from toy import TOY_FEATURES, digest, write_toy


@pytest.fixture(scope="module")
def document(client):
    response = client.get("/openapi.json")
    assert response.status_code == 200
    return response.json()


@pytest.fixture(scope="module")
def resolve(document):
    """A function that follows `$ref` into the document."""

    def follow(schema):
        while "$ref" in schema:
            node = document
            for step in schema["$ref"].removeprefix("#/").split("/"):
                node = node[step]
            schema = node
        return schema

    return follow


@pytest.fixture(scope="module")
def body_schema(document, resolve):
    """The request schema of `toy`, its parts by name: the request, an instance, an entry of sensitive_features."""
    operation = document["paths"]["/v1/models/toy:predict"]["post"]
    request = resolve(operation["requestBody"]["content"]["application/json"]["schema"])
    items = {name: resolve(request["properties"][name]["items"]) for name in ("instances", "sensitive_features")}
    return {"request": request, **items}


def test_models_lists_the_names(client):
    """KServe's V1 shape."""
    assert client.get("/v1/models").json() == {"models": ["brittle", "slow", "toy", "trio"]}


def test_a_model_describes_its_newest_version(client, toys):
    """What a caller needs to build a request, and the digest of what answers."""
    described = client.get("/v1/models/toy").json()
    assert described["name"] == "toy"
    assert described["ready"] is True
    assert described["version"] == "10"
    assert described["versions"] == ["9", "10"]
    assert described["classes"] == ["legitimate", "fraud"]
    assert described["positive_class"] == "fraud"
    assert described["threshold"] == 0.5
    assert [feature["name"] for feature in described["features"]] == [feature["name"] for feature in TOY_FEATURES]
    assert described["provider"] == "CPUExecutionProvider"
    assert described["digests"]["model.onnx"] == digest(toys / "toy" / "10" / "model.onnx")


def test_an_older_version_describes_itself(client, toys):
    """By its own digest."""
    described = client.get("/v1/models/toy/versions/9").json()
    assert described["version"] == "9"
    assert described["digests"]["model.onnx"] == digest(toys / "toy" / "9" / "model.onnx")


def test_the_card_is_the_packages_own_text(client, toys):
    """Byte for byte, as Markdown in UTF-8."""
    response = client.get("/v1/models/toy/card")
    assert response.headers["content-type"] == "text/markdown; charset=utf-8"
    assert response.content == (toys / "toy" / "10" / "card.md").read_bytes()


def test_a_ready_service_says_so(client):
    """Both health endpoints answer 200."""
    assert client.get("/v2/health/live").json() == {"live": True}
    ready = client.get("/v2/health/ready")
    assert ready.status_code == 200
    assert ready.json()["ready"] is True


def test_the_document_lists_one_concrete_path_per_model_and_version(document):
    """With names, not placeholders."""
    predicting = {path for path in document["paths"] if path.endswith(":predict")}
    assert predicting == {
        *(f"/v1/models/{name}:predict" for name in ("brittle", "slow", "toy", "trio")),
        *(f"/v1/models/{key}:predict" for key in ("brittle/versions/1", "slow/versions/1", "trio/versions/1")),
        *(f"/v1/models/toy/versions/{version}:predict" for version in (9, 10)),
    }


@pytest.mark.parametrize("model", ["toy", "toy/versions/9", "toy/versions/10", "trio", "brittle", "slow"])
def test_the_example_of_each_model_is_answered(client, document, model):
    """What the documentation shows can be sent as it stands."""
    operation = document["paths"][f"/v1/models/{model}:predict"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    assert client.predict(example, model=model).status_code == 200


def test_every_reference_of_the_document_leads_somewhere(document, resolve):
    """No dangling `$ref`."""

    def references(node):
        if isinstance(node, dict):
            yield from ([node] if "$ref" in node else [])
            node = list(node.values())
        if isinstance(node, list):
            for child in node:
                yield from references(child)

    found = list(references(document["paths"])) + list(references(document["components"]))
    assert found
    assert all(resolve(reference) for reference in found)


def test_the_schema_forbids_unknown_and_missing_keys(body_schema):
    """At every level, as validation does."""
    assert body_schema["request"]["required"] == ["instances"]
    assert body_schema["request"]["additionalProperties"] is False
    assert body_schema["instances"]["required"] == [feature["name"] for feature in TOY_FEATURES]
    assert body_schema["instances"]["additionalProperties"] is False
    assert not body_schema["sensitive_features"].get("required")
    assert body_schema["sensitive_features"]["additionalProperties"] is False


def test_the_schema_bounds_each_feature(body_schema):
    """Ranges, whole numbers, categories, null where it may be."""
    features = body_schema["instances"]["properties"]
    assert (features["amount"]["minimum"], features["amount"]["maximum"]) == (0, 1000)
    assert features["amount"]["type"] == "number"
    assert features["amount"]["description"] == "What is paid."
    assert (features["hour"]["minimum"], features["hour"]["maximum"]) == (0, 23)
    assert features["hour"]["type"] == "integer" or features["hour"]["multipleOf"] == 1
    assert features["cross_border"]["enum"] == [0, 1, False, True]
    assert features["entry_mode"]["enum"] == ["chip", "contactless", "online"]
    kinds = [option["type"] for option in features["balance"]["anyOf"]]
    assert sorted(kinds) == ["null", "number"]


def test_the_schema_bounds_what_stands_beside_the_instances(body_schema):
    """Numbers of instances and lengths of ids; an id stands once in a request."""
    properties = body_schema["request"]["properties"]
    assert (properties["instances"]["minItems"], properties["instances"]["maxItems"]) == (1, 1000)
    assert properties["ids"]["items"] == {"type": "string", "minLength": 1, "maxLength": 64, "pattern": r"^[^\x00]*$"}
    assert properties["ids"]["uniqueItems"] is True
    groups = body_schema["sensitive_features"]["properties"]
    assert groups.keys() == {"sex", "age_band"}
    assert groups["sex"]["type"] == "string"


def test_the_document_promises_the_error_body_that_is_sent(document, resolve):
    """One schema with the one key, for every status that a prediction can end with; never the framework's own 422."""
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert "422" not in operation["responses"], path
    responses = document["paths"]["/v1/models/toy:predict"]["post"]["responses"]
    assert {"200", "400", "413", "415", "500", "501", "503", "504"} <= responses.keys()
    for status, response in responses.items():
        schema = resolve(response["content"]["application/json"]["schema"])
        if status != "200":
            assert schema["required"] == ["error"]


def test_the_response_schema_fits_the_task(document):
    """Binary: probability and threshold. Several classes: probabilities."""

    def prediction(model):
        responses = document["paths"][f"/v1/models/{model}:predict"]["post"]["responses"]
        schema = responses["200"]["content"]["application/json"]["schema"]
        return schema["properties"]["predictions"]["items"]

    assert sorted(prediction("toy")["required"]) == ["id", "label", "probability", "threshold"]
    assert prediction("toy")["properties"]["label"]["enum"] == ["legitimate", "fraud"]
    assert sorted(prediction("trio")["required"]) == ["id", "label", "probabilities"]
    assert prediction("trio")["properties"]["label"]["enum"] == [10, 20, 30]
    assert prediction("trio")["properties"]["probabilities"]["properties"].keys() == {"10", "20", "30"}


def test_odd_feature_names_are_served_like_any_other(serve, tmp_path):
    """A name is a JSON key: Python's rules for identifiers and names of the framework do not matter."""
    names = ["class", "_private", "model_config", "größe (µm)", "__pydantic_config__"]
    features = [feature | {"name": name} for name, feature in zip(names, TOY_FEATURES, strict=True)]
    write_toy(tmp_path, features=features)
    client = serve(tmp_path)
    body = {"instances": [dict(zip(names, [2, 0, 0, "chip", 2], strict=True))]}
    assert client.predict(body).json()["predictions"][0]["probability"] == pytest.approx(0.731059, abs=1e-6)
    schema = client.get("/openapi.json").json()["components"]["schemas"]["toy-1-Instance"]
    assert list(schema["properties"]) == names


def test_the_documentation_page_names_only_local_assets(client):
    """Hospitals are air-gapped: every address on the page is one of this service."""
    page = client.get("/docs").text
    assert "http://" not in page
    assert "https://" not in page
    for asset in ("swagger-ui.css", "swagger-ui-bundle.js", "favicon.png"):
        assert f"/static-offline-docs/{asset}" in page
        assert client.get(f"/static-offline-docs/{asset}").status_code == 200
