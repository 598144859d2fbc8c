"""Episodes on a server of OpenEnv's protocol: ours, others, lost ones, ones that give nonsense; and a whole run."""

import contextlib
import json
import pathlib
import re
import threading
import time

import pytest
from commands import call

from stgrpo import envs
from stgrpo.data.records import read_trajectories
from stgrpo.envs.openenv.place import Place, read_place
from stgrpo.envs.sessions import open_session
from stgrpo.errors import ServerError, UserError
from stgrpo.evaluation.files import read_evaluation
from stgrpo.protocol import InvalidAction

pytest.importorskip("websockets", reason="the extra [openenv] is not installed")
from environment_servers import served

TASK, FAMILY = "cheese_sandwich", "small"


def remote(address: str, query: str = "") -> envs.Environment:
    return envs.get("openenv", data=f"http://{address}{query}")


def test_it_shows_what_the_environment_shows_here() -> None:
    ours = envs.get("robotouille")
    with served(ours, "robotouille") as address:
        there = remote(address)
        assert there.tasks() == ours.tasks() and there.families() == ours.families()
        assert there.benchmark_layouts("burger") == ours.benchmark_layouts("burger")
        assert there.instructions() == ours.instructions() and there.object_names() == ours.object_names()
        for split in ("train", "test"):
            asked = {"split": split, "count": 2, "seed": 3}
            names = there.layouts(TASK, FAMILY, **asked)
            assert names == ours.layouts(TASK, FAMILY, **asked)
        here = open_session(ours, TASK, names[0])
        with contextlib.closing(open_session(there, TASK, names[0])) as session:
            for _ in range(2):
                seen, mine = session.reset(), here.reset()
                while not mine.done:
                    assert seen == mine and (session.goal, session.max_steps) == (here.goal, here.max_steps)
                    with pytest.raises(InvalidAction):
                        session.step("Fly")
                    action = here.planner.optimal_actions(here.state)[0]
                    seen, mine = session.step(action), here.step(action)
                assert seen == mine and seen.success
        for task, layout in ((TASK, "moon:1"), ("pizza", "default")):
            with pytest.raises(UserError) as caught:
                open_session(there, task, layout).reset()
            assert "\n" not in str(caught.value)
        with pytest.raises(UserError, match="family 'large': unknown"):
            there.layouts(TASK, "large", split="test", count=1)
        with pytest.raises(UserError, match="ask for 1 to 10000"):
            there.layouts(TASK, FAMILY, split="test", count=20_000)


def test_an_episode_that_is_lost_is_taken_up_where_it_was() -> None:
    with served(envs.get("webshop"), idle=0.2) as address:
        with contextlib.closing(open_session(remote(address), "shop", "made:0")) as session:
            seen = session.reset()
            for _ in range(3):
                time.sleep(0.5)
                seen = session.step(seen.valid_actions[0])
            mine = open_session(envs.get("webshop"), "shop", "made:0")
            again = mine.reset()
            for _ in range(3):
                again = mine.step(again.valid_actions[0])
            assert seen == again


CONFIG = """
from stgrpo.config import base

def get_config():
    c = base()
    c.env.name, c.env.tasks, c.env.family = "openenv", ("cheese_sandwich",), "small"
    c.expert.kind, c.expert.model = "llm", "m"
    c.expert.trajectories, c.expert.validation = 3, 1
    c.client.concurrency = 1
    c.prompt.instructions = "none"
    c.tokenizer.vocab_size = 600
    c.model.name, c.model.width, c.model.depth = "custom", 32, 2
    c.model.heads, c.model.kv_heads, c.model.head_dim, c.model.mlp_width = 2, 1, 16, 64
    c.limits.prompt, c.limits.response = 512, 48
    c.sft.batch, c.sft.steps = 8, 3
    c.grpo.prompts, c.grpo.group_size, c.grpo.steps = 8, 2, 2
    c.grpo.validate_every, c.grpo.validation_layouts = 2, 1
    c.evaluation.suites, c.evaluation.layouts = ("unseen",), 2
    return c
"""


def optimal_answers() -> dict[str, str]:
    """What the expert says to each observation on its way through the layouts that are tried."""
    ours, answers = envs.get("robotouille"), {}
    for split, count in (("train", 6), ("validation", 2)):
        for layout in ours.layouts(TASK, FAMILY, split=split, count=count):
            problem = ours.make(TASK, layout)
            planner, state = ours.planner(problem), problem.initial_state()
            while optimal := planner.optimal_actions(state):
                answers[problem.observation(state)] = f"Reasoning: so\nAction: {optimal[0]}"
                state = problem.step(state, optimal[0])
    return answers


@pytest.fixture
def run(chat, tmp_path: pathlib.Path):
    """`run(stage, address)`: a stage on a server, in one work directory; `run.asked` is what the expert was shown."""
    (tmp_path / "remote.py").write_text(CONFIG, encoding="utf-8")
    answers = optimal_answers()

    def reply(body):
        stage.asked.append(body["messages"][-1]["content"])
        stage.meanwhile()
        return answers[stage.asked[-1]]

    expert = f"--config.expert.server={chat(reply).address}"

    def stage(name: str, address: str) -> int:
        words = (f"--config={tmp_path / 'remote.py'}", expert, f"--workdir={tmp_path / 'w'}")
        return call(name, *words, f"--config.env.data=http://{address}")

    stage.asked, stage.meanwhile = [], lambda: None
    return stage


@pytest.mark.slow
def test_a_collection_goes_on_when_its_server_went_away_and_came_back(run, tmp_path: pathlib.Path, capsys) -> None:
    ours, going = envs.get("robotouille"), contextlib.ExitStack()
    first = going.enter_context(served(ours))
    run.meanwhile = lambda: going.close() if len(run.asked) == 20 else None
    assert run("collect", first) == 1
    error = capsys.readouterr().err
    assert re.search(rf"^stgrpo: env.data=http://{first}: no session to be had .*\n$", error), error
    with served(ours) as second:
        assert run("collect", second) == 0, capsys.readouterr().err
    trajectories = read_trajectories(tmp_path / "w" / "data" / TASK / "train.jsonl")
    for trajectory in trajectories:
        planner, start = _start(trajectory.layout)
        assert len(trajectory.steps) == planner.distance(start)
    assert len(trajectories) == 3 and len(trajectories[0].steps) < 20
    assert run.asked.count(trajectories[0].steps[0].observation) == 1  # an episode that had ended is not played again


def _start(layout: str):
    problem = envs.get("robotouille").make(TASK, layout)
    return envs.get("robotouille").planner(problem), problem.initial_state()


@pytest.mark.slow
def test_all_stages_work_on_a_server(run, tmp_path: pathlib.Path, capsys) -> None:
    with served(envs.get("robotouille")) as address:
        for stage in ("collect", "sft", "grpo", "evaluate", "report"):
            assert run(stage, address) == 0, capsys.readouterr().err
    assert read_evaluation(tmp_path / "w" / "evaluation", "grpo_unseen").summary["n"] == 2
    rows = [json.loads(line) for line in (tmp_path / "w" / "metrics.jsonl").read_text().splitlines()]
    grpo = [row for row in rows if row["stage"] == "grpo"]
    assert [row["step"] for row in grpo] == [1, 2] and "validation_sr" in grpo[-1]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("", "env.data is empty: openenv needs the address of a server"),
        ("127.0.0.1:8000", "openenv needs the address of a server, such as http://127.0.0.1:8000"),
        ("http://me:secret@host", "openenv needs the address"),
        ("http://host:99999", "Port out of range"),
        ("http://host?txt=prompt", "no setting 'txt'; did you mean 'text'?"),
        ("http://host?max_steps=many", "max_steps='many' is none"),
        ("http://host?text=", "text='' is none"),
    ],
)
def test_an_address_that_is_none_is_told(data: str, said: str, capsys) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        envs.get("openenv", data=data).tasks()
    assert call("check-environment", "openenv", f"--data={data}") == 2
    assert said in capsys.readouterr().err


def test_an_address_may_say_what_things_are_called() -> None:
    place = read_place("https://host.name:8000/below/?text=prompt&actions=moves&action=say&max_steps=7&timeout=5")
    assert place == Place("https://host.name:8000/below", "prompt", "moves", "say", 7, 5)
    assert place.socket == "wss://host.name:8000/below/ws"


@contextlib.contextmanager
def strange(pages: dict[str, tuple[int, str]], answers):
    """A server with these pages, which answers each message of a session by a function; None for no answer."""
    from websockets.datastructures import Headers
    from websockets.http11 import Response
    from websockets.sync.server import serve

    def page(connection, request):
        if request.path == "/ws":
            return None
        status, text = pages.get(request.path, (404, "{}"))
        return Response(status, "", Headers({"Content-Length": str(len(text)), "Connection": "close"}), text.encode())

    def converse(socket):
        for message in socket:
            if (answer := answers(json.loads(message))) is not None:
                socket.send(answer)

    with serve(converse, "127.0.0.1", 0, process_request=page) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join(20)


SCHEMA = {
    "/schema": (
        200,
        json.dumps({"action": {"properties": {"metadata": {"type": "object"}, "say": {"type": "string"}}}}),
    )
}


class Guess:
    """A game of another's: which of three is right, by the seed."""

    def __call__(self, message: dict) -> str:
        data = message["data"]
        if message["type"] == "reset":
            self.right, self.shown = "abc"[data["seed"] % 3], f"Game {data['seed']}. Guess."
            return self._say(0, done=False)
        return self._say(float(data["say"] == self.right), done=True)

    def _say(self, reward: float, done: bool) -> str:
        observation = {"prompt": self.shown, "moves": [] if done else ["a", "b", "c"], "metadata": {}}
        return json.dumps({"type": "observation", "data": {"observation": observation, "reward": reward, "done": done}})


def test_another_server_is_played_by_its_own_names() -> None:
    with strange(SCHEMA, Guess()) as address:
        there = remote(address, "?text=prompt&actions=moves&max_steps=4")
        assert (there.tasks(), there.families()) == (("default",), ("seeds",))
        assert there.benchmark_layouts("default") == ()
        lists = [there.layouts("default", "seeds", split=s, count=3) for s in ("train", "validation", "test")]
        assert lists == [
            ["seed:0", "seed:1", "seed:2"],
            ["seed:8", "seed:18", "seed:28"],
            ["seed:9", "seed:19", "seed:29"],
        ]
        for action, success in (("c", True), ("a", False)):
            with contextlib.closing(open_session(there, "default", "seed:8")) as session:
                seen = session.reset()
                assert seen.observation == "Game 8. Guess.\n\nValid Actions:\na\nb\nc" and session.max_steps == 4
                seen = session.step(action)
                assert (seen.done, seen.success, seen.score) == (True, success, None)
        with pytest.raises(UserError, match="layout 'a:1': unknown; use \"seed:N\""):
            open_session(there, "default", "a:1")


def says(data: object):
    return lambda message: json.dumps({"type": "observation", "data": data})


@pytest.mark.parametrize(
    ("pages", "answers", "said"),
    [
        (
            {"/stgrpo/environment": (200, "<html>")},
            None,
            "/stgrpo/environment gives 200, '<html>': is it another server?",
        ),
        (
            {"/stgrpo/environment": (200, "{}")},
            None,
            "it does not say what its environment is (KeyError('benchmark_sets'",
        ),
        ({"/stgrpo/environment": (503, "{}")}, None, "/stgrpo/environment gives 503, '{}'"),
        ({"/stgrpo/environment": (400, '{"detail": "no\\nway"}')}, None, "no way"),
        ({}, None, "an action there has no text: say which is the action by ?action=NAME in env.data"),
        (SCHEMA, lambda message: "{", "it answers '{' to a reset: is it another server?"),
        (SCHEMA, lambda message: "[1]", "it answers '[1]' to a reset"),
        (SCHEMA, lambda message: '{"type": "error", "data": {"message": "out\\nof", "code": "X"}}', "out of (X)"),
        (SCHEMA, lambda message: '{"type": "error", "data": {"code": "CAPACITY_REACHED"}}', "give it more --sessions"),
        (SCHEMA, lambda message: None, "no answer in 1 s to a reset"),
        (SCHEMA, says({}), "its answer has no observation"),
        (
            SCHEMA,
            says({"observation": {"prompt": "Hi"}}),
            "no text 'text' among prompt: say which by ?text=NAME in env.data",
        ),
        (SCHEMA, says({"observation": {"text": "Hi", "valid_actions": [1]}}), "no actions 'valid_actions' among text"),
    ],
)
def test_nonsense_is_one_line(pages, answers, said, capsys) -> None:
    with strange(pages, answers) as address:
        with pytest.raises((ServerError, UserError)) as caught:
            open_session(remote(address, "?timeout=1"), "default", "seed:1").reset()
    text = str(caught.value)
    assert text.startswith(f"env.data=http://{address}: ") and said in text and "\n" not in text and len(text) < 400
    assert call("check-environment", "openenv", f"--data=http://{address}") == 1
    error = capsys.readouterr().err
    assert error.startswith(f"stgrpo: env.data=http://{address}: nobody answers") and error.count("\n") == 1


def test_an_episode_that_comes_back_as_another_is_refused() -> None:
    times = iter(range(100))

    def changing(message):
        seen = {"text": f"Look {next(times)}", "valid_actions": ["on"]}
        return json.dumps({"type": "observation", "data": {"observation": seen, "reward": 0, "done": False}})

    with strange(SCHEMA, changing) as address:
        with contextlib.closing(open_session(remote(address), "default", "seed:1")) as session:
            session.reset()
            session.step("on")
            session._socket.close()
            with pytest.raises(ServerError, match="was lost after 1 steps and is another when it is played again"):
                session.step("on")
