"""The HTTP client against a scripted server: what is tried again, what is not, and what the errors say."""

import email.utils
import socket
import threading
import time

import pytest

from stgrpo.errors import RequestRefused, ServerError, UserError
from stgrpo.serving.client import ClientSettings, HttpClient

QUICK = ClientSettings(timeout=5.0, retries=3, backoff=0.02, longest_wait=2.0, concurrency=4)


def client(*addresses, key="", **changes):
    return HttpClient(addresses, ClientSettings(**{**vars(QUICK), **changes}), key=key)


def after(failures, answer=(200, {}, {"ok": True})):
    """Gives the failures one after the other, then the answer."""
    left = list(failures)
    return lambda request: left.pop(0) if left else answer


def test_an_object_goes_there_and_another_comes_back(serve):
    server = serve(lambda request: (200, {}, {"got": request["body"], "path": request["path"]}))
    with client(server.address + "/", key="secret") as http:
        assert http.post("/a", {"é": [1, None]}) == {"got": {"é": [1, None]}, "path": "/a"}
        assert http.get("/b")["got"] is None
    assert server.requests[0]["headers"]["Authorization"] == "Bearer secret"
    assert len(server.connections) == 1  # kept alive


def test_loopback_is_not_reached_through_a_proxy(serve, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, unused_address())
    with client(serve(after([])).address) as http:
        assert http.get("/") == {"ok": True}


def test_an_answer_without_content_is_empty(serve):
    with client(serve(lambda request: (200, {}, b"")).address) as http:
        assert http.post("/pause", {}) == {}


@pytest.mark.parametrize(
    "failure", [*((status, {}, {"error": "later"}) for status in (408, 409, 429, 500, 502, 503, 504, 529)), None]
)
def test_what_may_pass_is_tried_again(serve, failure):
    server = serve(after([failure] * 3))
    with client(server.address) as http:
        assert http.post("/", {}) == {"ok": True}
    assert len(server.requests) == 4


def test_after_the_last_attempt_the_servers_message_is_raised(serve):
    server = serve(lambda request: (503, {}, {"error": {"message": "the model\nis loading"}}))
    with client(server.address) as http, pytest.raises(ServerError) as caught:
        http.post("/v1/x", {})
    assert str(caught.value) == f"{server.address}/v1/x: status 503, the model is loading (4 attempts)"
    assert len(server.requests) == 4 and not isinstance(caught.value, UserError)


def test_what_must_not_be_done_twice_is_not(serve):
    server = serve(after([None]))
    with client(server.address) as http, pytest.raises(ServerError):
        http.post("/load", {}, retry=False)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "content",
    [
        {"error": {"message": "no model x", "code": 404}},
        {"object": "error", "message": "no model x"},
        {"detail": "no model x"},
        b"no model x",
    ],
)
def test_a_refusal_is_the_users_and_not_tried_again(serve, content):
    server = serve(lambda request: (404, {}, content))
    with client(server.address) as http, pytest.raises(RequestRefused, match="status 404, no model x$") as caught:
        http.post("/", {})
    assert len(server.requests) == 1 and isinstance(caught.value, UserError)


@pytest.mark.parametrize(("status", "kind"), [(400, UserError), (401, UserError), (403, UserError), (501, ServerError)])
def test_what_does_not_pass_is_not_tried_again(serve, status, kind):
    server = serve(lambda request: (status, {}, {"error": {"message": "never"}}))
    with client(server.address) as http, pytest.raises(kind, match=f"status {status}, never$"):
        http.post("/", {})
    assert len(server.requests) == 1


def test_the_key_is_in_no_error(serve):
    server = serve(lambda request: (401, {}, {"error": {"message": "wrong key sk-abc123 given"}}))
    with client(server.address, key="sk-abc123") as http, pytest.raises(RequestRefused) as caught:
        http.post("/", {})
    assert "sk-abc123" not in repr(caught.value) + repr(http) and "wrong key *** given" in str(caught.value)


@pytest.mark.parametrize("content", [b"<html>", b'{"a": ', b"[1]"])
def test_an_answer_that_is_no_json_object_is_an_error(serve, content):
    server = serve(lambda request: (200, {}, content))
    with client(server.address) as http, pytest.raises(ServerError, match="not (a )?JSON"):
        http.get("/")


def test_retry_after_is_honoured_by_all_threads(serve):
    server, seen = serve(lambda request: answers(request)), []
    refused = after([(429, {"Retry-After": "1"}, {})])

    def answers(request):
        seen.append(time.monotonic())
        return refused(request)

    with client(server.address) as http:
        first = threading.Thread(target=http.get, args=("/",))
        first.start()
        time.sleep(0.2)
        http.get("/")
        first.join()
    assert len(seen) == 3 and all(1.0 <= at - seen[0] < 3.0 for at in seen[1:])


def test_retry_after_may_be_a_date(serve):
    date = email.utils.formatdate(time.time() + 2, usegmt=True)
    server = serve(after([(503, {"Retry-After": date}, {})]))
    begin = time.monotonic()
    with client(server.address, longest_wait=5.0) as http:
        http.get("/")
    assert 0.8 < time.monotonic() - begin < 4.0


def test_a_server_that_wants_to_be_left_alone_too_long_is_given_up(serve):
    server = serve(lambda request: (429, {"Retry-After": "3600"}, {"error": "quota"}))
    with client(server.address) as http, pytest.raises(ServerError, match="quota .*3600 s, longer than the 2 s"):
        http.get("/")
    assert len(server.requests) == 1


def test_a_server_that_hangs_is_not_waited_for(serve):
    server = serve(lambda request: time.sleep(2) or (200, {}, {}))
    begin = time.monotonic()
    with client(server.address) as http, pytest.raises(ServerError, match="no answer within 0.2 s"):
        http.get("/", timeout=0.2)
    assert time.monotonic() - begin < 1.5 and len(server.requests) == 1


def test_an_answer_that_drips_is_not_waited_for():
    """A byte each 50 ms: no pause is long, the whole is."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip():
            connection, _ = listener.accept()
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n")
            try:
                for _ in range(400):
                    connection.sendall(b" ")
                    time.sleep(0.05)
            except OSError:
                connection.close()

        threading.Thread(target=drip, daemon=True).start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        begin = time.monotonic()
        with client(address) as http, pytest.raises(ServerError, match="no answer within 0.5 s"):
            http.get("/", timeout=0.5)
        assert time.monotonic() - begin < 2.0


def unused_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_nobody_there():
    with client(unused_address()) as http, pytest.raises(ServerError, match=r"refused \(4 attempts\)"):
        http.get("/")


def test_no_more_calls_at_once_than_configured(serve):
    server = serve(lambda request: time.sleep(0.02) or (200, {}, {"n": request["body"]["n"]}))
    with client(server.address, concurrency=3) as http:
        results = http.map(lambda n: http.post("/", {"n": n})["n"], range(12))
        threads = [threading.Thread(target=http.post, args=("/", {"n": 0})) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == list(range(12)) and server.most_at_once == 3
    assert len(server.connections) <= 3


def test_the_first_error_of_many_ends_the_others(serve):
    def reply(request):
        time.sleep(0.02)
        return (400, {}, b"bad") if request["body"]["n"] == 1 else (200, {}, {})

    server = serve(reply)
    with client(server.address) as http, pytest.raises(RequestRefused, match="bad"):
        http.map(lambda n: http.post("/", {"n": n}), range(100))
    assert len(server.requests) < 20


def test_requests_are_spread_over_the_servers(serve):
    servers = [serve(lambda request: time.sleep(0.01) or (200, {}, {})) for _ in range(3)]
    with client(*(s.address for s in servers), concurrency=6) as http:
        http.map(lambda n: http.post("/", {}), range(30))
        http.post("/only", {}, address=servers[2].address)
    assert all(len(s.requests) >= 8 for s in servers)
    assert [r["path"] for s in servers for r in s.requests].count("/only") == 1
    assert servers[2].requests[-1]["path"] == "/only"


def test_a_dead_server_is_stood_in_for_by_another(serve):
    server = serve(after([]))
    with client(unused_address(), server.address, backoff=1.0) as http:
        begin = time.monotonic()
        http.map(lambda n: http.post("/", {}), range(20))
        assert time.monotonic() - begin < 1.5  # the dead one is left to rest, not asked each time
    assert len(server.requests) == 20


def test_requests_a_minute_count_retries(serve):
    server = serve(after([(503, {}, b"")] * 2))
    with client(server.address, requests_per_minute=1200, backoff=0.001) as http:
        begin = time.monotonic()
        http.map(lambda n: http.post("/", {}), range(8))
    assert len(server.requests) == 10 and time.monotonic() - begin >= 9 * 0.05


def test_a_closed_client_lets_nobody_wait(serve):
    http = client(serve(lambda request: (503, {"Retry-After": "2"}, b"later")).address, longest_wait=5.0)
    failures = []

    def call():
        with pytest.raises(ServerError) as caught:
            http.get("/")
        failures.append(str(caught.value))

    thread = threading.Thread(target=call)
    thread.start()
    time.sleep(0.3)
    http.close()
    thread.join(timeout=1.5)
    assert len(failures) == 1 and "closed" in failures[0]
