"""A scripted server on loopback, for everything that talks HTTP."""

import contextlib
import http.server
import json
import threading

import pytest


class ScriptedServer:
    """Answers with `reply(request)`; remembers the requests and how many were under way at one time.

    A request is a dictionary of method, path, headers and body (parsed). A reply is (status, headers, bytes or object),
    or None to break the connection without an answer.
    """

    def __init__(self, reply):
        self.reply, self.requests, self.connections = reply, [], set()
        self.most_at_once, self._at_once, self._lock = 0, 0, threading.Lock()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    @contextlib.contextmanager
    def _counted(self, request, connection):
        with self._lock:
            self.requests.append(request)
            self.connections.add(connection)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1

    def _handler(server):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                body = json.loads(raw) if raw else None
                request = {"method": self.command, "path": self.path, "headers": dict(self.headers), "body": body}
                with server._counted(request, self.client_address):
                    answer = server.reply(request)
                if answer is None:
                    self.close_connection = True
                    return
                status, headers, content = answer
                content = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": len(content)}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.wfile.write(content)

            do_GET = do_POST

            def log_message(self, *_):
                pass

        return Handler


@pytest.fixture
def serve():
    """`serve(reply)`: a `ScriptedServer` that ends with the test."""
    servers = []

    def start(reply):
        servers.append(ScriptedServer(reply))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
