"""What an Alertmanager says to a webhook."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Webhook:
    """Every notification that arrived, in order: (status, labels, annotations)."""

    def __init__(self):
        self.arrived = []
        self._lock = threading.Lock()

    def take(self, body):
        with self._lock:
            self.arrived += [(alert["status"], alert["labels"], alert["annotations"]) for alert in body["alerts"]]

    def firing(self):
        """What fires as far as this receiver knows: {sorted labels}."""
        now = {}
        with self._lock:
            for status, labels, _ in self.arrived:
                now[tuple(sorted(labels.items()))] = status
        return {labels for labels, status in now.items() if status == "firing"}

    def ever(self):
        """What has fired at any time."""
        with self._lock:
            return {tuple(sorted(labels.items())) for status, labels, _ in self.arrived if status == "firing"}


@contextmanager
def listening():
    """(Webhook, its URL on 127.0.0.1)."""
    webhook = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            webhook.take(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield webhook, f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
