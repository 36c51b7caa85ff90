"""What happens on the socket: bodies that lie, clients that leave, requests in a row; and every byte of the answers."""

import json
import socket
import struct
from pathlib import Path

import fastapi_offline
import pytest
from exposition import value
from servers import eventually
from toy import request

LIMIT = 20_000
BUNDLE = Path(fastapi_offline.__file__).parent / "static" / "swagger-ui-bundle.js"


@pytest.fixture
def connect(server):
    """Open a connection to the server; closed at the end."""
    opened = []

    def open_one(port=server.port):
        opened.append(socket.create_connection(("127.0.0.1", port), timeout=20))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.close()


def head(method="POST", path="/v1/models/toy:predict", **headers):
    """The head of a request; `content_length=3` becomes `content-length: 3`."""
    fields = {"host": "test", "content_type": "application/json"} | headers
    lines = [f"{name.replace('_', '-')}: {text}" for name, text in fields.items() if text is not None]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "\r\n"]).encode()


def post(body, *, path="/v1/models/toy:predict", **headers):
    """A whole request with `body`, bytes or anything that JSON can say."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return head(path=path, content_length=len(content), **headers) + content


def chunk(content):
    return b"%x\r\n%s\r\n" % (len(content), content)


def read_all(connection):
    """Everything until the server closes."""
    received = b""
    while data := connection.recv(65536):
        received += data
    return received


def read_one(connection):
    """One response with a Content-Length, and not a byte more: (status, headers, body)."""
    received = b""
    while b"\r\n\r\n" not in received:
        data = connection.recv(1)
        assert data, received
        received += data
    status, headers = parse_head(received)
    body = b""
    while len(body) < int(headers["content-length"]):
        data = connection.recv(int(headers["content-length"]) - len(body))
        assert data, body
        body += data
    return status, headers, body


def parse_head(received):
    first, *lines = received.rstrip(b"\r\n").split(b"\r\n")
    version, status, _ = first.split(b" ", 2)
    assert version == b"HTTP/1.1"
    return int(status), dict(line.decode().lower().split(": ", 1) for line in lines)


def parse(received, methods):
    """The responses in `received`, one per method, with nothing between or after them."""
    found = []
    for method in methods:
        top, separator, received = received.partition(b"\r\n\r\n")
        assert separator
        status, headers = parse_head(top)
        length = 0 if method == "HEAD" else int(headers["content-length"])
        found.append((status, received[:length]))
        assert len(received) >= length
        received = received[length:]
    assert received == b""
    return found


def assert_error(status, body, expected_status):
    assert status == expected_status
    assert json.loads(body).keys() == {"error"}


def test_a_chunked_body_is_read(connect):
    """In chunks of any size."""
    content = json.dumps(request(ids=["a"])).encode()
    connection = connect()
    connection.sendall(head(transfer_encoding="chunked"))
    for start in range(0, len(content), 7):
        connection.sendall(chunk(content[start : start + 7]))
    connection.sendall(chunk(b""))
    status, _, body = read_one(connection)
    assert status == 200
    assert json.loads(body)["predictions"][0]["id"] == "a"


def test_a_chunked_body_over_the_limit_is_refused_before_its_end(connect, server):
    """The count of what came in decides; the caller need not finish."""
    connection = connect()
    connection.sendall(head(transfer_encoding="chunked"))
    for _ in range(LIMIT // 1000 + 1):
        connection.sendall(chunk(b" " * 1000))
    status, _, body = read_one(connection)
    assert_error(status, body, 413)
    assert server.predict(request()).status_code == 200


@pytest.mark.parametrize("declared", [LIMIT + 1, 10**12, "9" * 300])
def test_a_declared_length_over_the_limit_is_refused_before_the_body(connect, declared):
    """Nothing of the body was sent, and the answer is there. (A length beyond 64 bits the parser itself refuses.)"""
    connection = connect()
    connection.sendall(head(content_length=declared))
    status, _, body = read_one(connection)
    if isinstance(declared, int):
        assert_error(status, body, 413)
    else:
        assert status == 400


def test_a_length_that_is_too_short_cuts_the_body(connect, server):
    """The JSON ends early, and what follows is no request: 400 either way."""
    content = json.dumps(request()).encode()
    connection = connect()
    connection.sendall(head(content_length=len(content) - 10) + content)
    assert read_one(connection)[0] == 400
    assert server.predict(request()).status_code == 200


def test_a_length_that_is_too_long_ends_with_the_connection(connect, server):
    """The caller promises more than it sends, and leaves: counted as gone, not as failed."""

    def gone():
        labels = {"route": "/v1/models/{name}:predict", "method": "POST", "status": "499"}
        return value(server.metrics(), "plumbline_http_requests_total", **labels) or 0

    before = gone()
    content = json.dumps(request()).encode()
    connection = connect()
    connection.sendall(head(content_length=len(content) + 10) + content)
    connection.close()
    assert eventually(lambda: gone() > before)
    assert server.predict(request()).status_code == 200


def test_a_length_and_chunks_together_are_refused(connect):
    """The way requests are smuggled past a proxy."""
    connection = connect()
    connection.sendall(head(content_length=5, transfer_encoding="chunked") + chunk(b"{}") + chunk(b""))
    assert parse_head(read_all(connection).partition(b"\r\n\r\n")[0])[0] == 400


@pytest.mark.parametrize(
    ("refused", "status"),
    [
        (post(b"{"), 400),
        (post(request({"amount": -1})), 400),
        (post(b" " * (LIMIT + 1)), 413),
        (post(request(), content_type="text/plain"), 415),
        (post(request(), path="/v1/models/nope:predict"), 404),
        (post(request(), path="/v1/models/toy:verb"), 404),
        (post({"instances": [{"slot": 9}]}, path="/v1/models/brittle:predict"), 500),
        (head("GET"), 405),
        (head("PUT", content_length=4) + b"body", 405),
    ],
    ids=lambda case: case if isinstance(case, int) else case[:40].decode(),
)
def test_a_connection_stays_good_after_a_refusal(connect, refused, status):
    """Whether or not the body was read, the next request on the connection gets its own answer."""
    connection = connect()
    connection.sendall(refused)
    assert_error(*read_one(connection)[::2], status)
    connection.sendall(post(request(ids=["next"])))
    status, _, body = read_one(connection)
    assert status == 200
    assert json.loads(body)["predictions"][0]["id"] == "next"


def test_a_request_that_comes_byte_by_byte_is_answered(connect):
    """A slow line is no fault."""
    connection = connect()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in post(request(ids=["slow"])):
        connection.sendall(bytes([byte]))
    assert read_one(connection)[0] == 200


def test_a_body_that_never_comes_is_given_up(start, connect):
    """`request_timeout_seconds` counts from arrival to answer: an idle caller must not hold its place for ever."""
    server = start(request_timeout_seconds=0.3)
    connection = connect(server.port)
    connection.settimeout(5)
    connection.sendall(head(content_length=100) + b"{")
    try:
        status, _, body = read_one(connection)
    except TimeoutError:
        pytest.fail("no answer to a body that never came")
    assert_error(status, body, 504)


@pytest.mark.parametrize(
    "sent", [b"", b"POST /v1", head(content_length=500), head(content_length=500) + b'{"instances"']
)
def test_a_caller_who_leaves_in_the_middle_of_a_request_leaves_nothing(connect, server, sent):
    """The server answers others, and nothing stays in flight."""
    connection = connect()
    connection.sendall(sent)
    connection.close()
    assert server.predict(request()).status_code == 200
    assert eventually(lambda: value(server.metrics(), "plumbline_http_requests_in_flight") == 1)
    assert "Traceback" not in server.log


def test_a_caller_who_leaves_before_the_answer_leaves_nothing(connect, server):
    """Reset while the model runs and while a long answer is on its way."""
    slow = post({"instances": [{"level": 0, "turns": 200_000}]}, path="/v1/models/slow:predict")
    for sent in (slow, slow + post(request()) * 3, head("GET", "/static-offline-docs/swagger-ui-bundle.js")):
        connection = connect()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(sent)
        connection.recv(1) if sent.startswith(b"GET") else None
        connection.close()
    assert server.predict({"instances": [{"level": 0, "turns": 0}]}, model="slow").status_code == 200
    assert eventually(lambda: value(server.metrics(), "plumbline_http_requests_in_flight") == 1)
    assert "Traceback" not in server.log


def test_requests_in_a_row_are_answered_in_order_byte_for_byte(connect):
    """Pipelining: fifty requests at once, good and bad and without a body; nothing between the responses."""
    sent, methods, expected = b"", [], []
    for number in range(50):
        kind = number % 5
        if kind == 0:
            sent += head("HEAD", "/static-offline-docs/swagger-ui.css")
        elif kind == 1:
            sent += post(request({"amount": -1}))
        elif kind == 2:
            sent += head("GET", "/v2/health/live")
        else:
            sent += post(request(ids=[f"id-{number}"]))
        methods.append("HEAD" if kind == 0 else "POST")
        expected.append((200, f'"id-{number}"') if kind > 2 else (400 if kind == 1 else 200, ""))
    sent += post(request(ids=["last"]), connection="close")
    connection = connect()
    connection.sendall(sent)
    found = parse(read_all(connection), [*methods, "POST"])
    assert [status for status, _ in found] == [status for status, _ in expected] + [200]
    for (_, body), (_, text) in zip(found, [*expected, (200, '"last"')], strict=True):
        assert text.encode() in body
        assert not body or json.loads(body)


@pytest.mark.parametrize("connection_header", ["close", "keep-alive"])
def test_a_long_answer_arrives_whole(connect, connection_header):
    """A file in many writes, before and after a small answer."""
    get = head("GET", "/static-offline-docs/swagger-ui-bundle.js")
    connection = connect()
    connection.sendall(get + post(request()) + get + head("GET", "/v2/health/live", connection=connection_header))
    if connection_header == "keep-alive":
        connection.sendall(head("GET", "/v2/health/live", connection="close"))
    found = parse(read_all(connection), ["GET"] * (4 if connection_header == "close" else 5))
    assert found[0] == found[2] == (200, BUNDLE.read_bytes())
    assert found[-1] == (200, b'{"live":true}')


def test_a_slow_reader_gets_every_byte(connect, server):
    """The server waits for room, answers others meanwhile, and loses nothing."""
    connection = connect()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    connection.sendall(head("GET", "/static-offline-docs/swagger-ui-bundle.js", connection="close"))
    assert all(server.predict(request()).status_code == 200 for _ in range(20))
    assert parse(read_all(connection), ["GET"]) == [(200, BUNDLE.read_bytes())]


def test_close_is_answered_and_closed(connect):
    """The whole response, then the end of the connection."""
    connection = connect()
    connection.sendall(post(request(), connection="close"))
    received = read_all(connection)
    assert b"connection: close" in received
    assert parse(received, ["POST"])[0][0] == 200


def test_http_1_0_is_answered_and_closed(connect):
    """Old health checkers speak it."""
    connection = connect()
    connection.sendall(b"GET /v2/health/live HTTP/1.0\r\n\r\n")
    assert parse(read_all(connection), ["GET"]) == [(200, b'{"live":true}')]


def test_a_caller_who_asks_first_is_told_to_continue(connect):
    """`Expect: 100-continue`: an interim response, then the answer, each whole."""
    content = json.dumps(request()).encode()
    connection = connect()
    connection.sendall(head(content_length=len(content), expect="100-continue"))
    interim = connection.recv(len(b"HTTP/1.1 100 Continue\r\n\r\n"), socket.MSG_WAITALL)
    assert interim == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.sendall(content)
    assert read_one(connection)[0] == 200


@pytest.mark.parametrize(("headers", "status"), [({"content_length": LIMIT + 1}, 413), ({"content_type": "a/b"}, 415)])
def test_a_caller_who_asks_first_is_spared_a_body_that_would_be_refused(connect, headers, status):
    """The refusal comes instead of the interim response."""
    connection = connect()
    connection.sendall(head(**{"content_length": 10, "expect": "100-continue"} | headers))
    assert read_one(connection)[0] == status


def test_a_caller_who_asks_first_and_does_not_wait_is_answered(connect):
    """The interim response and the answer may come in one piece."""
    connection = connect()
    connection.sendall(post(request(), expect="100-continue", connection="close"))
    interim, _, rest = read_all(connection).partition(b"\r\n\r\n")
    assert interim == b"HTTP/1.1 100 Continue"
    assert parse(rest, ["POST"])[0][0] == 200


@pytest.mark.parametrize(
    "endless",
    [b"0\r\na: " + b"b" * 2**16, b"0\r\n" + b"a: b\r\n" * 10_923, b"1;" + b"a" * 2**16],
    ids=["a trailer", "trailers", "an extension"],
)
def test_what_stands_around_a_chunked_body_has_the_limit_of_a_head(connect, server, endless):
    """Else all trailers of ten seconds would be kept: two gigabytes."""
    connection = connect()
    connection.sendall(head(transfer_encoding="chunked", expect="100-continue"))
    assert connection.recv(25, socket.MSG_WAITALL) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.sendall(endless)
    assert_error(*parse(read_all(connection), ["POST"])[0], 431)
    assert server.predict(request()).status_code == 200


@pytest.mark.parametrize("upgrade", ["h2c", "websocket"])
def test_an_offer_to_upgrade_is_passed_over(connect, upgrade):
    """Java's HTTP client offers h2c with every first request; RFC 9110 7.8 lets a server ignore it, and answer."""
    connection = connect()
    connection.sendall(
        post(request(), connection="Upgrade, HTTP2-Settings", upgrade=upgrade, http2_settings="AAMAAABk")
    )
    assert read_one(connection)[0] == 200


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03quetzal\r\n\r\n",
        b"GET /quetzal\xff\xfe HTTP/1.1\r\nhost: test\r\n\r\n",
        b"QUETZAL /v1/models HTTP/1.1\r\nhost: test\r\n\r\n",
        b"POST /v1/models/toy:predict HTTP/1.1\r\nquetzal\r\n\r\n",
        b"POST /v1/models/toy:predict HTTP/1.1\r\ncontent-length: quetzal\r\n\r\n",
        b"POST /v1/models/toy:predict HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nquetzal\r\n",
    ],
)
def test_what_is_not_http_is_refused_and_repeated_nowhere(connect, server, garbage):
    """A refusal of the protocol layer, without a stack trace and without a word of what came."""
    connection = connect()
    connection.sendall(garbage)
    received = read_all(connection)
    assert parse(received, ["POST"])[0][0] == 400
    assert b"quetzal" not in received.lower()
    assert "quetzal" not in server.log.lower()
    assert "Traceback" not in server.log
    assert server.predict(request()).status_code == 200


def test_what_is_not_http_is_refused_with_the_error_body_too(connect):
    """DESIGN section 3: errors are always `{"error": ...}`, also where no application was asked."""
    connection = connect()
    connection.sendall(b"GET / HTTP/9.9.9\r\n\r\n")
    assert_error(*parse(read_all(connection), ["GET"])[0], 400)
