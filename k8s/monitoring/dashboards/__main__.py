"""Writes the committed dashboards: `python -m k8s.monitoring.dashboards`."""

import json
from pathlib import Path

from k8s.monitoring.dashboards.drift import drift
from k8s.monitoring.dashboards.fairness import fairness
from k8s.monitoring.dashboards.service import service

FOLDER = Path(__file__).parent / "json"


def documents() -> dict[str, str]:
    """The JSON of each dashboard by the name of its file."""
    made = {"fairness": fairness(), "drift": drift(), "service": service()}
    return {f"{name}.json": json.dumps(document, indent=2) + "\n" for name, document in made.items()}


def main() -> None:
    """Write the files."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in documents().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
