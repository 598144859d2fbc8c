"""OpenEnv's own client, which knows nothing of us, plays at our server."""

import pytest

from stgrpo import envs

pytestmark = pytest.mark.slow
pytest.importorskip("openenv", reason="the extra [test-openenv] is not installed")


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
