"""From a valid request to its answer: one way for every protocol, so that none is without records or monitor."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from starlette.types import Scope

from service.api import codec
from service.api.codec import Floats
from service.api.explaining import Explaining
from service.api.explanations import ExplainOptions
from service.api.recording import Recorder
from service.api.sampling import Sampler
from service.api.schema import PredictRequest
from service.errors import NotOffered
from service.identifiers import ulids
from service.monitor.monitor import INFERENCE
from service.runtime.repository import Model

# Of the time that is left to a request; the rest is for recording it.
EXPLAINING_SHARE = 0.9


class Answer(NamedTuple):
    """What n rows were answered.

    `margin` `(n, 1)` or `(n, K)` and `probability` `(n, K)` as the graph gives them; `content` is the V1 response, in
    which rows whose id was used before have their recorded answers.
    """

    ids: list[str]
    margin: Floats
    probability: Floats
    content: dict[str, Any]


def describe(scope: Scope, model: Model, request: PredictRequest, answer: Answer, *, body_bytes: int) -> None:
    """Say of an answered request what its log line may say, where somebody will log it."""
    if "plumbline.log" in scope:
        scope["plumbline.log"].update(
            model_name=model.manifest.name,
            model_version=model.manifest.version,
            # A caller's own ids may name a person: only ours are logged.
            first_id=None if request.ids else answer.ids[0],
            rows=len(request.X),
            body_bytes=body_bytes,
        )


class Answering:
    """Runs the model, decides, explains, records, and leaves the rest to the monitor."""

    def __init__(self, explaining: Explaining, recorder: Recorder, sampler: Sampler) -> None:
        self._explaining = explaining
        self._recorder = recorder
        self._sampler = sampler

    async def answer(
        self,
        scope: Scope,
        model: Model,
        request: PredictRequest,
        options: ExplainOptions | None,
        deadline: float,
        *,
        check: Callable[[dict[str, Any]], Any] | None = None,
    ) -> Answer:
        """Answer `request` before `deadline` (monotonic), with explanations if there are `options` for them.

        `check` may refuse an explanation, before anything is recorded. The inference for the monitor is left in
        `scope`. Every refusal is an exception for `http_errors`.
        """
        if options is not None and model.explainer is None:
            raise NotOffered("explain: this model package has no explainer")
        margin, probability = await model.batcher.infer(request.X, timeout_seconds=deadline - time.monotonic())
        manifest = model.manifest
        ids = request.ids or ulids(len(request.X))
        decisions = codec.decide(manifest, probability)
        content: dict[str, Any] = {
            "model_name": manifest.name,
            "model_version": manifest.version,
            "predictions": codec.predictions(manifest, ids, decisions, probability),
        }
        explanations: list[dict[str, Any]] = []
        if options is not None:
            explanations = content["explanations"] = await self._explaining.explain(
                model,
                options,
                X=request.X,
                margin=margin,
                labels=[prediction["label"] for prediction in content["predictions"]],
                timeout_seconds=EXPLAINING_SHARE * (deadline - time.monotonic()),
            )
            if check is not None:
                for explanation in explanations:
                    check(explanation)
        inference = self._recorder.inference(model, request, decisions, probability)
        if inference is not None:
            if options is not None and options.when == "always":  # a selection by outcome would bend the means
                inference.explanations = explanations
            job = self._recorder.submit(model, request, ids, inference, probability, explanations)
            scope[INFERENCE] = inference
            await self._recorder.settle(job, model, content, deadline)
            self._sampler.offer(model, request.X, inference)
        return Answer(ids, margin, probability, content)
