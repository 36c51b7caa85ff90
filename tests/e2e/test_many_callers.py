"""Many callers at once on the committed models: each gets the answer to its own row."""

import asyncio
import json

import httpx
import pytest
from servers import CHECKOUT

CALLERS = 64


@pytest.fixture(params=["diagnosis", "progression", "transaction"])
def model(request):
    return request.param


@pytest.fixture
def bodies(model):
    """Requests with different held-out rows, as many as there are callers."""
    lines = (CHECKOUT / "models" / "repository" / model / "1" / "replay.jsonl").read_text().splitlines()
    return [{"instances": [json.loads(line)["instance"]], "ids": [f"{n}"]} for n, line in enumerate(lines[:CALLERS])]


def test_sixty_four_callers_at_once_get_what_each_gets_alone(committed, model, bodies):
    """Same id, label and, within float32, probability as one after another."""
    path = f"{committed.url}/v1/models/{model}:predict"

    async def everyone():
        # Kept connections would be idle for five seconds on a busy machine, and closed just as they are used again.
        limits = httpx.Limits(max_connections=CALLERS, max_keepalive_connections=0)
        async with httpx.AsyncClient(limits=limits, trust_env=False, timeout=20) as http:
            return await asyncio.gather(*(http.post(path, json=body) for body in bodies * 3))

    alone = [committed.predict(body, model).json()["predictions"][0] for body in bodies]
    assert len({prediction["probability"] for prediction in alone}) > CALLERS // 2
    together = [response.json()["predictions"][0] for response in asyncio.run(everyone())]
    assert [(each["id"], each["label"]) for each in together] == [(each["id"], each["label"]) for each in alone * 3]
    found = [prediction["probability"] for prediction in together]
    assert found == pytest.approx([prediction["probability"] for prediction in alone * 3], abs=1e-6)
