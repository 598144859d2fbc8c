"""OpenEnv's own client, which knows nothing of us, plays at our server, and our sessions at its server."""

import contextlib
import importlib.util
import os
import pathlib
import sys
import threading
import time

import pytest

from stgrpo import envs
from stgrpo.envs.sessions import open_session

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("openenv")]


@pytest.fixture
def openenv(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package can be imported, after all that is installed: from $STGRPO_OPENENV or .openenv."""
    pytest.importorskip("websockets", reason="the extra [openenv] is not installed")
    folder = pathlib.Path(os.environ.get("STGRPO_OPENENV") or REPOSITORY / ".openenv")
    if not folder.is_dir() and importlib.util.find_spec("openenv") is None:
        pytest.skip(f"no OpenEnv: {folder} is not there (make slow brings it)")
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])


def test_its_client_plays_an_episode_and_is_told_of_mistakes() -> None:
    from environment_servers import served
    from openenv.core.generic_client import GenericEnvClient

    problem = envs.get("robotouille").make("burger", "default")
    planner, state = envs.get("robotouille").planner(problem), problem.initial_state()
    with served(envs.get("robotouille"), "robotouille") as address:
        first, second = (GenericEnvClient(base_url=f"http://{address}") for _ in range(2))
        with first.sync() as client, second.sync() as other:
            result = client.reset(task="burger", layout="default", distance=True)
            other_start = other.reset(task="burger", layout="test:42").observation["text"]
            assert (result.reward, result.done) == (None, False)
            with pytest.raises(
                RuntimeError, match=r"'txt' is unknown here: use text, metadata .code: VALIDATION_ERROR"
            ):
                client.step({"txt": "Wait"})
            while not result.done:
                assert result.observation["text"] == problem.observation(state)
                assert result.observation["distance"] == planner.distance(state)
                action = planner.optimal_actions(state)[0]
                state, result = problem.step(state, action), client.step({"text": action})
            assert problem.is_goal(state) and result.reward == 1.0 and result.observation["success"]
            assert client.state()["step_count"] == planner.distance(problem.initial_state())
            assert other.step({"text": "Fly"}).observation["text"] == other_start
            assert other.reset(task="burger", layout="test:42").observation["text"] == other_start


def test_our_sessions_play_at_its_server() -> None:
    import uvicorn
    from openenv.core.env_server import Action, Environment, Observation, State, create_fastapi_app

    class Say(Action):
        word: str

    class Shown(Observation):
        prompt: str
        moves: list[str]

    class Count(Environment):
        """Say the numbers from the seed's last digit up to three."""

        SUPPORTS_CONCURRENT_SESSIONS = True

        def reset(self, seed=None, episode_id=None):
            self.at = (seed or 0) % 3
            return self.shown(None)

        def step(self, action, timeout_s=None):
            self.at = self.at + 1 if action.word == str(self.at + 1) else self.at
            return self.shown(float(self.at == 3))

        def shown(self, reward):
            done = self.at == 3
            return Shown(prompt=f"You said {self.at}.", moves=[] if done else list("123"), done=done, reward=reward)

        @property
        def state(self):
            return State()

    app = create_fastapi_app(Count, Say, Shown, max_concurrent_envs=8)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        for _ in range(600):
            if server.started:
                break
            time.sleep(0.05)
        port = server.servers[0].sockets[0].getsockname()[1]
        there = envs.get("openenv", data=f"http://127.0.0.1:{port}?text=prompt&actions=moves")
        (layout,) = there.layouts("default", "seeds", split="validation", count=1)
        with contextlib.closing(open_session(there, "default", layout)) as session:
            for _ in range(2):
                seen = session.reset()
                assert seen.observation == "You said 2.\n\nValid Actions:\n1\n2\n3"
                seen = session.step("1")
                assert (seen.done, seen.success) == (False, False)
                seen = session.step("3")
                assert (seen.observation, seen.done, seen.success) == ("You said 3.", True, True)
    finally:
        server.should_exit = True
        thread.join(20)
