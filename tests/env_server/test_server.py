"""The environment server: OpenEnv's messages, many sessions at once, and what clients do wrong."""

import asyncio
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from commands import call

from stgrpo import envs

websockets = pytest.importorskip("websockets", reason="the extra [openenv] is not installed")
from environment_servers import served  # noqa: E402
from websockets.exceptions import ConnectionClosed  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BURGER = {"task": "burger", "layout": "default"}


@pytest.fixture(scope="module")
def kitchens():
    with served(envs.get("robotouille"), "robotouille", size=10_000) as address:
        yield address


def ask(session, kind: str, data: object = None) -> dict:
    session.send(json.dumps({"type": kind} if data is None else {"type": kind, "data": data}))
    return json.loads(session.recv(20))


def session_at(address: str):
    return connect(f"ws://{address}/ws", proxy=None, open_timeout=20)


def get(address: str, path: str) -> tuple[int, dict]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_an_episode_is_the_environments(kitchens: str) -> None:
    problem = envs.get("robotouille").make("burger", "default")
    planner, state = envs.get("robotouille").planner(problem), problem.initial_state()
    with session_at(kitchens) as session:
        answer = ask(session, "reset", BURGER | {"distance": True, "episode_id": "mine"})
        while not answer["data"]["done"]:
            seen = answer["data"]["observation"]
            assert answer["type"] == "observation" and seen["text"] == problem.observation(state)
            assert tuple(seen["valid_actions"]) == problem.valid_actions(state)
            assert (seen["distance"], seen["goal"]) == (planner.distance(state), problem.goal)
            action = planner.optimal_actions(state)[0]
            state, answer = problem.step(state, action), ask(session, "step", {"text": action})
        assert problem.is_goal(state) and answer["data"]["reward"] == 1.0 and answer["data"]["observation"]["success"]
        told = ask(session, "state")["data"]
        assert (told["episode_id"], told["done"], told["success"]) == ("mine", True, True)
        assert told["step_count"] == planner.distance(problem.initial_state())
        assert ask(session, "step", {"text": "Wait"})["data"]["message"] == "the episode is over: reset first"


def test_a_layout_is_chosen_by_split_seed_and_index(kitchens: str) -> None:
    names = envs.get("robotouille").layouts("burger", "small", split="test", count=3, seed=5)
    with session_at(kitchens) as session:
        chosen = {"task": "burger", "family": "small", "split": "test", "seed": 5}
        found = [ask(session, "reset", chosen | {"index": i})["data"]["observation"]["layout"] for i in range(3)]
        assert found == names
        assert ask(session, "reset", {})["data"]["observation"]["task"] == envs.get("robotouille").tasks()[0]


def test_an_invalid_action_changes_nothing_and_counts(kitchens: str) -> None:
    with session_at(kitchens) as session:
        first = ask(session, "reset", BURGER)["data"]["observation"]
        for step in range(1, first["max_steps"] + 1):
            answer = ask(session, "step", {"text": "Fly"})["data"]
            assert answer["observation"] == first | {"invalid": True} and answer["reward"] == 0.0
            assert answer["done"] == (step == first["max_steps"])


@pytest.mark.parametrize(
    ("message", "code", "said"),
    [
        ("{", "INVALID_JSON", "not JSON"),
        ("[" * 5000, "INVALID_JSON", "nested too deeply"),
        ('{"type": "step", "data": {"text": NaN}}', "INVALID_JSON", "NaN"),
        (b"\xff\x00", "INVALID_JSON", "not JSON"),
        ("[]", "VALIDATION_ERROR", "a message is"),
        ("7", "VALIDATION_ERROR", "a message is"),
        ('{"type": 1}', "VALIDATION_ERROR", "a message is"),
        ('{"type": "fly"}', "UNKNOWN_TYPE", "'fly': use reset, step, state or close"),
        ('{"type": "step"}', "VALIDATION_ERROR", "a step has"),
        ('{"type": "step", "data": []}', "VALIDATION_ERROR", "data must be a JSON object"),
        ('{"type": "step", "data": {"text": 5}}', "VALIDATION_ERROR", "text must be of the kind str"),
        ('{"type": "step", "data": {"message": "Wait"}}', "VALIDATION_ERROR", "'message' is unknown here: use text"),
        ('{"type": "reset", "data": {"seed": -1}}', "VALIDATION_ERROR", "seed=-1: use a whole number"),
        ('{"type": "reset", "data": {"seed": true}}', "VALIDATION_ERROR", "seed must be of the kind int"),
        ('{"type": "reset", "data": {"index": 10000}}', "VALIDATION_ERROR", "ask for 1 to 10000"),
        ('{"type": "reset", "data": {"split": "tset"}}', "VALIDATION_ERROR", "split 'tset': unknown"),
        ('{"type": "reset", "data": {"task": "pizza"}}', "VALIDATION_ERROR", "task 'pizza': unknown"),
        ('{"type": "reset", "data": {"task": "pizza", "layout": "default"}}', "EXECUTION_ERROR", "pizza"),
        ('{"type": "reset", "data": {"layout": "moon:1"}}', "EXECUTION_ERROR", "moon"),
        ('{"type": "reset", "data": {"layout": "default", "seed": 1}}', "VALIDATION_ERROR", "two ways to choose"),
        ('{"type": "step", "data": {"text": "' + "x" * 1_000_000 + '"}}', "VALIDATION_ERROR", "the limit is 10000"),
    ],
)
def test_what_is_wrong_is_one_error_and_the_episode_goes_on(message, code, said, kitchens: str) -> None:
    with session_at(kitchens) as session:
        before = ask(session, "reset", BURGER)["data"]["observation"]
        ask(session, "step", {"text": before["valid_actions"][0]})
        state = ask(session, "state")
        session.send(message)
        answer = json.loads(session.recv(20))
        assert answer["type"] == "error" and answer["data"]["code"] == code and said in answer["data"]["message"]
        assert "\n" not in answer["data"]["message"] and len(answer["data"]["message"]) < 600
        assert ask(session, "state") == state
        assert ask(session, "step", {"text": before["valid_actions"][0]})["type"] in ("observation", "error")


def test_nothing_is_asked_of_an_episode_that_there_is_not(kitchens: str) -> None:
    with session_at(kitchens) as session:
        assert ask(session, "step", {"text": "Wait"})["data"]["message"] == "there is no episode yet: reset first"
        assert ask(session, "state")["data"] == {"episode_id": None, "step_count": 0}


def test_clients_that_vanish_or_speak_otherwise_harm_nobody(kitchens: str) -> None:
    with session_at(kitchens) as session:
        ask(session, "reset", BURGER)
        host, port = kitchens.split(":")
        for said in (b"", b"\x16\x03\x01\x02\x00", b"GET /ws HTTP/1.1\r\n\r\n", b"POST /reset HTTP/1.1\r\n\r\n{}"):
            with socket.create_connection((host, int(port)), 10) as stranger:
                stranger.sendall(said)
        with session_at(kitchens) as other:
            ask(other, "reset", BURGER)
            other.socket.shutdown(socket.SHUT_RDWR)  # gone without a word
        with pytest.raises(ConnectionClosed):
            send_too_much(kitchens)
        assert ask(session, "state")["data"]["step_count"] == 0
    with pytest.raises(websockets.exceptions.InvalidStatus, match="403"):
        come_from_a_page(kitchens)


def send_too_much(address: str) -> None:
    with session_at(address) as session:
        session.send("x" * (9 << 20))
        session.recv(20)


def come_from_a_page(address: str) -> None:
    with connect(f"ws://{address}/ws", proxy=None, origin="http://a.page", open_timeout=20):
        pass


def test_the_pages_say_what_there_is(kitchens: str) -> None:
    assert get(kitchens, "/health") == (200, {"status": "healthy"})
    assert get(kitchens, "/metadata")[1]["name"] == "robotouille"
    assert get(kitchens, "/schema")[1]["action"]["required"] == ["text"]
    about = get(kitchens, "/stgrpo/environment")[1]
    assert "burger" in about["tasks"] and about["benchmark_sets"]["benchmark"]["burger"][0] == "test:42"
    layouts = "/stgrpo/layouts?task=burger&family=small&split=test"
    assert get(kitchens, f"{layouts}&count=2")[1]["layouts"] == envs.get("robotouille").layouts(
        "burger", "small", split="test", count=2
    )
    assert get(kitchens, f"{layouts}&count=many")[0] == 400
    assert get(kitchens, "/stgrpo/layouts")[0] == 400
    assert get(kitchens, "/elsewhere")[0] == 404


class Breaking:
    """An environment with a fault that no protocol knows."""

    def tasks(self):
        return ("a",)

    def families(self):
        raise RuntimeError("two\nlines")

    def benchmark_layouts(self, task):
        return ()

    def layouts(self, task, family, *, split, count, seed=0):
        return []

    def session(self, task, layout):
        raise ZeroDivisionError("broken")


def test_a_fault_of_the_environment_is_an_error_too() -> None:
    with served(Breaking()) as address, session_at(address) as session:
        answer = ask(session, "reset", {"layout": "b"})["data"]
        assert answer == {"message": "ZeroDivisionError: broken", "code": "EXECUTION_ERROR"}
        assert ask(session, "reset", {})["data"]["message"] == "RuntimeError: two lines"
        assert get(address, "/stgrpo/environment") == (500, {"detail": "RuntimeError: two lines"})


def test_sessions_are_limited_and_end_when_nobody_speaks() -> None:
    with served(envs.get("webshop"), sessions=1, idle=0.5) as address:
        with session_at(address) as session:
            ask(session, "state")
            with session_at(address) as second:
                refused = json.loads(second.recv(20))["data"]
            assert refused == {"message": "all 1 sessions are taken", "code": "CAPACITY_REACHED"}
            with pytest.raises(ConnectionClosed) as ended:
                session.recv(20)
        assert ended.value.rcvd.reason == "no message for 0.5 s"
        with session_at(address) as third:
            assert ask(third, "state")["type"] == "state"


@pytest.mark.slow
def test_a_thousand_sessions_that_say_nothing_disturb_nobody() -> None:
    async def crowd(address: str) -> dict:
        async def come():
            return await websockets.asyncio.client.connect(f"ws://{address}/ws", proxy=None, open_timeout=60)

        idle = []
        for _ in range(10):
            idle += await asyncio.gather(*(come() for _ in range(100)))
        last = await come()
        await last.send('{"type": "reset", "data": {"layout": "default", "task": "burger"}}')
        answer = json.loads(await last.recv())
        await asyncio.gather(*(each.close() for each in (*idle, last)))
        return answer

    import websockets.asyncio.client

    with served(envs.get("robotouille"), sessions=1024) as address:
        assert asyncio.run(crowd(address))["type"] == "observation"


def test_the_command_serves_until_it_is_told_to_end(tmp_path: pathlib.Path) -> None:
    command = [sys.executable, "-m", "stgrpo", "env-server", "webshop", "--port=0"]
    environment = os.environ | {"PYTHONPATH": f"{REPOSITORY}", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path) as server:
        try:
            line = server.stdout.readline()
            address = re.search(r"at http://(\S+);", line)[1]
            assert address.startswith("127.0.0.1:") and f"--config.env.data=http://{address}" in line
            with session_at(address) as session:
                assert "search page" in ask(session, "reset", {})["data"]["observation"]["text"]
                server.send_signal(signal.SIGTERM)
                assert server.wait(20) == 0
        finally:
            server.kill()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "env-server takes one name of an environment"),
        (["webshp"], "did you mean 'webshop'?"),
        (["webshop", "--port=70000"], "--port=70000"),
        (["webshop", "--sessions=0"], "--sessions=0: must be at least 1"),
        (["webshop", "--host=203.0.113.7", "--port=0"], "--host=203.0.113.7"),
        (["webshop", "--colour=red"], "Unknown command line flag 'colour'"),
    ],
)
def test_a_mistake_is_one_line(words, said, capsys) -> None:
    assert call("env-server", *words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
