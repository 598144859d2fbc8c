"""Malformed replies of a server on loopback, drawn by seeds, wherever read: one line, right exits, no loss."""

import json
import os
import random
import socket
import socketserver
import struct
import threading
import time

import pytest
from commands import call

from stgrpo.errors import ServerError, UserError
from stgrpo.evaluation.files import read_evaluation
from stgrpo.react.policy import Question, SamplingParams
from stgrpo.sampling.vllm.sampler import VllmSampler, VllmSettings, read_reply
from stgrpo.serving.address import server_addresses
from stgrpo.serving.chat_policy import ChatPolicy
from stgrpo.serving.client import ClientSettings, HttpClient

CONFIG = "--config=configs/tiny.py:smoke"
COUNT = int(os.environ.get("STGRPO_FAULTS", "60"))
STRANGE = [
    None, True, 0, -1, 1.5, 10**400, float("nan"), float("inf"), "", "x", "\ud83d", "\x00\x1b[31m\u202e", "y" * 10_000,
    [], [None], {}, {"a": {}}, [[]] * 3, {"message": {"message": 7}},
]  # fmt: skip
BODIES = [
    b"", b" ", b"null", b"[1]", b'"text"', b"{", b"\xff\xfe\x00", b"\xef\xbb\xbf{}", b"[" * 100_000, b"<html>",
    b'{"choices": [{"mess', b'{"a": 1}{"b": 2}', b"data: {}\n\ndata: [DONE]\n\n", b'{"error": "\xed\xa0\xbd"}',
    b'{"choices": [], "choices": 3}', b'{"n": ' + b"9" * 5000 + b"}", b'{"error": {"code": "\\ud83d", "message": [9]}}',
    b'{"a":' * 3000 + b"1" + b"}" * 3000,
]  # fmt: skip
STATUSES = [
    "100 Continue", "101 Switching", "204 No Content", "301 Moved", "302 Found", "307 Again", "400 Bad", "401 Who",
    "403 No", "404 Not There", "408 Slow", "409 Conflict", "418 Teapot", "429 Wait", "500 Oh", "501 No", "502 Gate",
    "503 Busy", "504 Late", "529 Full", "599 What", "999 Huh", "abc", "",
]  # fmt: skip
HEADERS = [
    b"Retry-After: 0", b"Retry-After: soon", b"Retry-After: 99999999999", b"Retry-After: nan", b"Location: http://a/?key=1",
    b"Content-Encoding: gzip", b"Content-Type: text/event-stream", b"Transfer-Encoding: chunked", b"bad header",
    b"Retry-After: Wed, 99 Foo 9999 99:99:99 GMT", b"Content-Length: -5", b"Content-Length: 10\r\nContent-Length: 20",
]  # fmt: skip


class RawServer:
    """Answers each request, by its path and body, with raw bytes; None resets the connection, a list drips."""

    def __init__(self, answer):
        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                while line := self.rfile.readline():
                    path, length = line.split()[1].decode(), 0
                    while (header := self.rfile.readline()).strip():
                        if header.lower().startswith(b"content-length:"):
                            length = int(header.split(b":")[1])
                    if not self.send(answer(path, json.loads(self.rfile.read(length) or b"null"))):
                        return

            def send(self, reply):
                if reply is None:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return False
                try:
                    for piece in reply if isinstance(reply, list) else [reply]:
                        self.wfile.write(piece)
                        if isinstance(reply, list):
                            time.sleep(0.05)
                except OSError:
                    return False
                return b"\r\nContent-Length: " in reply if isinstance(reply, bytes) else False

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads, block_on_close, allow_reuse_address = True, False, True

            def handle_error(self, request, client_address):
                pass  # a client that is gone

        self._server = Server(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def raw():
    """Starts a server; the one before it is closed."""
    servers = []

    def start(answer):
        while servers:
            servers.pop().close()
        servers.append(RawServer(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def http(body, status="200 OK", *headers, length=None):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [
        f"HTTP/1.1 {status}".encode(),
        *headers,
        f"Content-Length: {len(body) if length is None else length}".encode(),
    ]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def places(value, at=()):
    """Every place in nested values."""
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield from places(part, (*at, key))


def changed(value, rng):
    """A copy with something strange, or nothing, in one place."""
    copy = json.loads(json.dumps(value))
    *way, last = rng.choice([place for place in places(copy) if place])
    holder = copy
    for key in way:
        holder = holder[key]
    if isinstance(holder, dict) and rng.random() < 0.25:
        del holder[last]
    else:
        holder[last] = rng.choice(STRANGE)
    return copy


def malformed(good, seed, drips=True):
    """A reply that is not as it should be, as raw bytes; see `RawServer`."""
    rng = random.Random(seed)
    kind = rng.choice(
        ["value"] * 8 + ["body"] * 4 + ["status"] * 4 + ["header", "short", "long", "cut", "reset", "drip"]
    )
    if kind == "value":
        return http(changed(good, rng))
    if kind == "body":
        return http(rng.choice(BODIES))
    if kind == "status":
        body = rng.choice([*BODIES, json.dumps({"error": rng.choice(STRANGE)}).encode()])
        return http(body, rng.choice(STATUSES), *rng.sample(HEADERS[:6], 1))
    whole = http(good)
    if kind == "header":
        return http(good, "200 OK", rng.choice(HEADERS))
    if kind in ("short", "long"):
        return http(good, length=3 if kind == "short" else 10**6) if rng.random() < 0.5 else whole[: rng.randrange(99)]
    if kind == "cut":
        return whole[: rng.randrange(len(whole))]
    return [whole[i : i + 1] for i in range(len(whole))] if kind == "drip" and drips else None


COMPLETION = {
    "id": "c", "object": "chat.completion", "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}  # fmt: skip
SAMPLES = {
    "model": "stgrpo",
    "choices": [
        {"index": k, "token_ids": [5, 2], "prompt_token_ids": [7, 8], "finish_reason": "stop",
         "logprobs": {"token_logprobs": [-0.5, -0.25], "tokens": ["token_id:5", "token_id:2"]}}
        for k in range(2)
    ],
}  # fmt: skip
QUICK = ClientSettings(timeout=0.4, retries=1, backoff=0.001, longest_wait=0.01, concurrency=2)


def attempt(work, seed):
    """Does something that may fail as a server does: an error on one line, and no other."""
    try:
        return work()
    except (ServerError, UserError) as error:
        assert str(error) and "\n" not in str(error) and len(str(error)) < 2000, (seed, str(error))
        assert str(error).replace("\ufffd", "").isprintable(), (seed, str(error))
        return None


def ask(raw, seed):
    server = raw(lambda path, body: malformed(COMPLETION, seed))
    policy = ChatPolicy(HttpClient(server_addresses(server.address), QUICK), "m", SamplingParams(8))
    answers = attempt(lambda: policy.answer([Question([{"role": "user", "content": "go"}], ("go",), 1)]), seed)
    for answer in answers or ():
        json.dumps(answer.text, ensure_ascii=False).encode()  # can be written
        assert answer.n_tokens >= 0, seed
    policy.client.close()


def draw(raw, seed, shape):
    """A rollout of vLLM's, of which one call is answered strangely."""
    calls, rng = [], random.Random(seed)
    strange = rng.randrange(5)
    held = {"results": [{"run": "me", "version": 0, "idle": 0.0}]}

    def answer(path, body):
        calls.append(path)
        good = {"/version": {"version": "0.32.0"}, "/v1/completions": SAMPLES}.get(path, held)
        if path == "/collective_rpc" and body["method"] == "stgrpo_describe":
            good = {"results": [describe(shape)]}
        return malformed(good, seed) if len(calls) > strange else http(good)

    server = raw(answer)
    settings = VllmSettings((server.address,), "me", shape, "float32", 8, timeout=0.4)

    def work():
        sampler = VllmSampler(settings, [2])
        sampler._client.settings = QUICK
        sampler._version = 0
        got = sampler.generate([[7, 8]], 2, SamplingParams(3), [1])
        assert all(type(i) is int and 0 <= i < shape.vocab_size for group in got.tokens for ids in group for i in ids)

    attempt(work, seed)


def describe(c):
    return {
        "model": {
            "model_type": "qwen2", "vocab_size": c.vocab_size, "hidden_size": c.width, "num_hidden_layers": c.depth,
            "num_attention_heads": c.heads, "num_key_value_heads": c.kv_heads, "head_dim": c.head_dim,
            "intermediate_size": c.mlp_width, "rope_theta": c.rope_theta, "rms_norm_eps": c.norm_eps,
            "tie_word_embeddings": True, "max_position_embeddings": 999,
        },
        "dtype": "float32", "max_model_len": 64, "logprobs_mode": "processed_logprobs", "generation_config": "vllm",
        "quantization": None, "pipeline": 1,
    }  # fmt: skip


def play(raw, seed, workdir, capsys, *, expert=False):
    """An evaluation or a collection that meets one strange answer, and goes on with a server that is well again."""
    state = {"left": random.Random(seed).randrange(3), "well": False}

    def answer(path, body):
        if path.endswith("/models"):
            return http({"data": []})
        if not state["well"] and state["left"] == 0:
            return malformed(COMPLETION, seed)
        state["left"] -= 1
        actions = body["messages"][-1]["content"].split("Valid Actions:\n")[1].split("\n\n")[0].split("\n")
        completion = json.loads(json.dumps(COMPLETION))
        completion["choices"][0]["message"]["content"] = f"Reasoning: so\nAction: {actions[-1]}"
        return http(completion)

    server = raw(answer)
    which = ("expert", "kind=llm") if expert else ("policy", "kind=server")
    fields = [f"--config.{which[0]}.{f}" for f in (which[1], f"server={server.address}", "model=m")]
    fields += ["--config.client.retries=0", "--config.client.timeout=0.4", "--config.client.concurrency=1"]
    fields += ["--config.evaluation.layouts=2", "--config.expert.trajectories=1", "--config.expert.tries=1"]
    words = ["collect" if expert else "evaluate", CONFIG, f"--workdir={workdir}", *fields]
    status, error = call(*words), capsys.readouterr().err
    told = [line for line in error.splitlines() if not line.startswith("stgrpo: WARNING")]
    assert status in (0, 1, 2) and "Traceback" not in error and len(told) <= 1, (seed, status, error)
    state["well"] = True
    again = call(*words, "--config.client.timeout=60")  # a loaded machine is no strange server
    assert again == (2 if expert and "nothing to learn" in capsys.readouterr().err else 0), seed
    if not expert:
        assert read_evaluation(workdir / "evaluation", "m_unseen").summary["n"] == 2, seed
    return status


@pytest.mark.parametrize("seed", range(25))
def test_a_strange_reply_is_an_error_on_one_line(raw, seed, tiny_shape):
    ask(raw, seed)
    draw(raw, seed, tiny_shape)


@pytest.mark.parametrize("seed", range(3))
def test_a_strange_reply_ends_no_work_for_good(raw, seed, tmp_path, capsys):
    play(raw, seed, tmp_path / "w", capsys)


@pytest.mark.slow
def test_many_strange_replies(raw, tmp_path, capsys, tiny_shape):
    statuses = []
    for seed in range(COUNT):
        ask(raw, seed)
        draw(raw, seed, tiny_shape)
        statuses.append(play(raw, seed, tmp_path / f"w{seed}", capsys, expert=seed % 2 == 1))
    print({status: statuses.count(status) for status in set(statuses)})


def test_samples_of_vllm_with_anything_strange_in_them_are_not_used():
    body = {"model": "stgrpo", "prompt": [7, 8], "n": 2, "max_tokens": 3, "stop_token_ids": [2]}
    for seed in range(2000):
        attempt(lambda seed=seed: read_reply(changed(SAMPLES, random.Random(seed)), body, 64), seed)
