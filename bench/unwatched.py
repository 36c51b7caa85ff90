"""This service without fairness monitor and records, to measure what they cost: `python -m bench.unwatched PORT`."""

import sys

from service.app import create_app
from service.logs import configure_logs
from service.server import Server
from service.settings import read_settings

if __name__ == "__main__":
    settings = read_settings(port=int(sys.argv[1]), audit="off")
    configure_logs(level=settings.log_level, form=settings.log_format)
    Server(create_app(settings, watched=False), settings).run()
