"""Shared by all tests: eight fake CPU devices, tiny models, servers on loopback, recorded traces, a check of words."""

import contextlib
import http.server
import json
import os
import pathlib
import re
import threading
from collections.abc import Callable

from compiling import FAST

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
if "xla_backend_optimization_level" not in os.environ["XLA_FLAGS"]:
    os.environ["XLA_FLAGS"] += f" {FAST}"

# The same small programs again and again, in processes that tests start most of all: each is compiled once.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{pathlib.Path(__file__).parents[1]}/.pytest_cache/programs")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import pytest
from recordings import FULL, Recordings, Traces

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
AIMS = re.compile(r"Next, \S+ must (go on (top of \S+|a table)|go aside|be free of \S+)|\S+ must go aside first|So .*")


@pytest.fixture(scope="session")
def recordings() -> Recordings:
    """Recorded runs of the real engine, as the repository has them: layouts, actions, a digest of each line."""
    return Recordings()


@pytest.fixture(scope="session")
def traces() -> Traces:
    """The same runs in full; they live beside the project, not in it."""
    if not FULL.is_dir():
        pytest.skip("the full recordings are not at hand (../shared/traces)")
    return Traces(FULL)


@pytest.fixture(scope="session")
def vllm_python() -> str:
    """An interpreter that has vLLM: $STGRPO_VLLM_PYTHON, or that of the environment .venv-vllm."""
    python = os.environ.get("STGRPO_VLLM_PYTHON") or str(REPOSITORY / ".venv-vllm" / "bin" / "python")
    if not pathlib.Path(python).is_file():
        pytest.skip(f"no vLLM: {python} is not there")
    return python


@pytest.fixture(scope="session")
def tiny_shape():
    """A decoder small enough to compile in a second, with grouped heads, biases and a tied head."""
    from stgrpo.models.shapes import ModelShape

    return ModelShape(64, 32, 2, heads=4, kv_heads=2, head_dim=8, mlp_width=48, rope_theta=10_000.0, max_position=64)


@pytest.fixture(scope="session")
def make_model():
    """`make_model(shape, seed)`: random parameters, none of them left at the constant where norms and biases start."""
    import functools

    import jax

    from stgrpo.models.transformer import Transformer

    @functools.partial(jax.jit, static_argnums=0)
    def make(shape, seed=0):
        leaves, form = jax.tree.flatten(Transformer(shape, jax.random.key(seed)))
        keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
        return form.unflatten([x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)])

    return make


@pytest.fixture(scope="session")
def make_groups():
    """`make_groups(prompt_lengths, response_lengths, ...)`: a random `GroupBatch`, its padding full of random ids."""
    import numpy as np

    from stgrpo.training.batch import GroupBatch, loss_weights

    def make(prompt_len_B, length_BG, *, vocab=64, P=None, R=None, aggregation="token_mean", seed=0):
        rng = np.random.default_rng(seed)
        prompt_len_B, length_BG = np.asarray(prompt_len_B, np.int32), np.asarray(length_BG, np.int32)
        (B, G), P, R = length_BG.shape, P or int(prompt_len_B.max()), R or max(1, int(length_BG.max()))
        weight_BGR = np.asarray(loss_weights(length_BG, R, aggregation))
        return GroupBatch(
            prompt_BP=rng.integers(0, vocab, (B, P), np.int32),
            prompt_len_B=prompt_len_B,
            response_BGR=rng.integers(0, vocab, (B, G, R), np.int32),
            weight_BGR=weight_BGR,
            mask_BGR=(weight_BGR > 0).astype(np.float32),
            adv_BG=rng.normal(size=(B, G)).astype(np.float32),
            ref_logp_BGR=rng.uniform(-5, -3, (B, G, R)).astype(np.float32),
        )

    return make


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
            wbufsize = -1  # head and body in one packet: the second would wait 40 ms for the first one's receipt

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
                    self.wfile.flush()

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


@pytest.fixture
def chat(serve):
    """`chat(reply)`: a server of chat completions that says `reply(body)`, one token a word; see `ScriptedServer`.

    `reply` gives a text, a (text, finish reason), or a whole answer of three.
    """

    def start(reply, owner="test"):
        def respond(request):
            if request["path"] == "/v1/models":
                return 200, {}, {"object": "list", "data": [{"id": "m", "owned_by": owner}]}
            assert request["path"] == "/v1/chat/completions"
            said = reply(request["body"])
            if said is None or (isinstance(said, tuple) and len(said) == 3):
                return said
            text, finish = said if isinstance(said, tuple) else (said, "stop")
            asked = sum(len(message["content"].split()) for message in request["body"]["messages"])
            usage = {"prompt_tokens": asked, "completion_tokens": len(text.split())}
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
            return 200, {}, {"choices": [choice], "usage": usage}

        return serve(respond)

    return start


@pytest.fixture(scope="session")
def check_reasoning() -> Callable[[str, str, str], None]:
    """Call it with a reasoning, the observation it is about and the action it leads to."""
    return _check_reasoning


def _check_reasoning(reasoning: str, observation: str, action: str) -> None:
    """Every sentence is a line of the observation or an aim, and the action names nothing that was not said."""
    lines = set(observation.splitlines())
    for sentence in reasoning.removesuffix(".").split(". "):
        assert sentence in lines or AIMS.fullmatch(sentence), (sentence, observation)
    assert set(re.findall("[a-z]+[0-9]+", action)) <= set(re.findall("[a-z]+[0-9]+", reasoning)), (reasoning, action)
