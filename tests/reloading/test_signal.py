"""SIGHUP to the real server: what changed in the repository is served."""

import os
import re
import signal
import threading

import toy
from servers import eventually, running


def test_sighup_loads_what_has_changed(tmp_path) -> None:
    """A new version, a new model and one that is gone; what is refused is in the log, and the server goes on."""
    models = tmp_path / "models"
    toy.write_toy(models, version=1)
    toy.write_toy(models, name="goes")
    with running(tmp_path / "log", models) as server:
        for made in (toy.write_toy(tmp_path / "aside", version=2), toy.write_toy(tmp_path / "aside", name="comes")):
            (models / made.parent.name).mkdir(exist_ok=True)
            made.rename(models / made.parent.name / made.name)
        broken = toy.write_toy(models, version=3)
        (broken / "model.onnx").write_bytes(b"x")
        (models / "goes" / "1").rename(tmp_path / "gone")
        server.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: server.http.get("/v1/models").json() == {"models": ["comes", "toy"]})
        assert server.predict(toy.request()).json()["model_version"] == "2"
        assert server.http.get("/v2/health/ready").status_code == 200
        assert "model.onnx is not the file that was packaged" in server.log
        server.process.send_signal(signal.SIGHUP)
        server.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: server.log.count('"event":"model unloaded"') == 1)
        assert server.predict(toy.request()).status_code == 200
        assert server.stop() <= 0
        assert "Traceback" not in server.log


def test_sighup_while_models_are_loaded_at_the_start_is_no_end(tmp_path, committed) -> None:
    """What was put in place meanwhile may be what it is about; the default of the signal would be to kill."""
    log = tmp_path / "log"

    def hang_up():
        starting = re.compile(r"server process \[(\d+)\].*Waiting for application startup", re.DOTALL)
        found = eventually(lambda: log.exists() and starting.search(log.read_text()), every=0.001)
        os.kill(int(found[1]), signal.SIGHUP)

    early = threading.Thread(target=hang_up)
    early.start()
    with running(log, committed) as server:
        early.join()
        assert server.http.get("/v2/health/ready").status_code == 200
        assert server.log.count('"event":"model loaded"') == len(server.http.get("/v1/models").json()["models"])
        assert server.stop() <= 0
