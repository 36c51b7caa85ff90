"""The baseline: a model served the way FastAPI's tutorial does it. `python -m bench.tutorial PACKAGE PORT`.

One `async def` endpoint, a pydantic model with a float per feature, one `session.run` per request, a response model.
Where a choice is not the tutorial's it is the faster one: one thread for the session, uvloop and httptools (which
uvicorn takes when they are installed), no access log. The framework's telemetry is as it comes, which is on; switching
it off would make this baseline about 6 % faster.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, create_model


class Prediction(BaseModel):
    """The answer."""

    label: str
    probability: float


def create_app(package: Path) -> FastAPI:
    """The application for the model of `package`, whose features must all be numbers."""
    manifest = json.loads((package / "manifest.json").read_text())
    names = [feature["name"] for feature in manifest["features"]]
    labels, threshold = manifest["classes"], manifest["threshold"]
    positive = labels.index(manifest["positive_class"])
    # What a tutorial would write out: class Instance(BaseModel): mean_radius: float; mean_texture: float; ...
    Instance = create_model("Instance", **dict.fromkeys(names, float))  # type: ignore[call-overload]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(package / "model.onnx", options, providers=["CPUExecutionProvider"])
    app = FastAPI()

    @app.post("/predict", response_model=Prediction)
    async def predict(instance: Instance) -> Prediction:  # type: ignore[valid-type]
        X = np.array([list(instance.model_dump().values())], np.float32)  # type: ignore[attr-defined]  # (1, d)
        probability = float(session.run(["probability"], {"X": X})[0][0, positive])
        return Prediction(label=labels[positive if probability >= threshold else 1 - positive], probability=probability)

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(Path(sys.argv[1])), host="127.0.0.1", port=int(sys.argv[2]), access_log=False)
