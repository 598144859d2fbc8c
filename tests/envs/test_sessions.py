"""Sessions: those of pure problems, and an engine that is played in place, has no planner and goes all the way."""

import json
import pathlib
import re

import pytest

from stgrpo import envs
from stgrpo.cli import main, parse
from stgrpo.data.records import read_trajectories
from stgrpo.envs.sessions import ProblemSession, open_session, open_sessions
from stgrpo.envs.stochastic import FlakyEnvironment
from stgrpo.errors import UserError
from stgrpo.evaluation.episodes import EpisodeConfig, play_episodes
from stgrpo.evaluation.files import read_evaluation
from stgrpo.evaluation.metrics import summarise
from stgrpo.plan.checks import validate
from stgrpo.protocol import InvalidAction, Judging, Observed, planner_of
from stgrpo.react.policy import Response, SamplingParams
from stgrpo.react.prompt import PromptStyle

EAST, WEST, OPEN, WINDOW = "Go east", "Go west", "Open the door", "Climb out of the window"
LAST = 4
SPLITS = {"train": (0, 1), "validation": (2,), "test": (3,)}


class Hall:
    """Places 0 to 4 in a row, doors between them, some closed; who climbs out of the window is gone.

    "hall:N" starts at N % 3; door d, east of place d, is closed where bit d of N // 3 is set.
    """

    task, goal, max_steps = "hall", f"Stand at place{LAST}", 12

    def __init__(self, layout: str, live: set["Hall"]):
        self.layout, self._number, self._live = layout, int(layout.removeprefix("hall:")), live
        self._place: int | None = None
        live.add(self)

    def reset(self) -> Observed:
        assert self in self._live
        self._place, self._gone = self._number % 3, False
        self._closed = {door for door in range(LAST) if self._number // 3 >> door & 1}
        return self._look()

    def step(self, action: str) -> Observed:
        if action not in self._actions():
            raise InvalidAction(action)
        if action == OPEN:
            self._closed.remove(self._place)
        elif action == WINDOW:
            self._gone = True
        else:
            self._place += {EAST: 1, WEST: -1}[action]
        return self._look()

    def close(self) -> None:
        self._live.remove(self)

    def _actions(self) -> tuple[str, ...]:
        assert self in self._live and self._place is not None and not self._gone
        east = OPEN if self._place in self._closed else EAST
        return (east, *([WEST] if self._place and self._place - 1 not in self._closed else []), WINDOW)

    def _look(self) -> Observed:
        success = self._place == LAST
        valid = () if self._gone or success else self._actions()
        door = "closed" if self._place in self._closed else "open"
        lines = (f"You are at place{self._place}. The door to the east is {door}.", "", "Valid Actions:", *valid)
        shown = "\n".join([*lines, "", f"Goal: {self.goal}"])
        return Observed(shown, valid, done=success or self._gone, success=success)


class Halls:
    """The environment: sessions, and nothing else."""

    def __init__(self) -> None:
        self.live: set[Hall] = set()

    def tasks(self) -> tuple[str, ...]:
        return ("hall",)

    def families(self) -> tuple[str, ...]:
        return ("hall",)

    def benchmark_layouts(self, task: str) -> tuple[str, ...]:
        return ()

    def layouts(self, task: str, family: str, *, split: str, count: int, seed: int = 0) -> list[str]:
        return [f"hall:{n}" for n in range(48) if n % 4 in SPLITS[split]][:count]

    def session(self, task: str, layout: str) -> Hall:
        return Hall(layout, self.live)


CONFIG = """
from stgrpo.config import base

def get_config():
    c = base()
    c.env.name, c.env.tasks, c.env.family = "halls", ("hall",), "hall"
    c.expert.kind, c.expert.model = "llm", "m"
    c.expert.trajectories, c.expert.validation = 6, 2
    c.prompt.instructions = "none"
    c.tokenizer.vocab_size = 400
    c.model.name, c.model.width, c.model.depth = "custom", 32, 2
    c.model.heads, c.model.kv_heads, c.model.head_dim, c.model.mlp_width = 2, 1, 16, 64
    c.limits.prompt, c.limits.response = 256, 32
    c.sft.batch, c.sft.steps = 8, 3
    c.grpo.prompts, c.grpo.group_size, c.grpo.steps = 8, 2, 2
    c.grpo.validate_every, c.grpo.validation_layouts = 2, 2
    c.evaluation.suites, c.evaluation.layouts = ("unseen",), 3
    return c
"""


@pytest.fixture
def halls(monkeypatch: pytest.MonkeyPatch) -> Halls:
    monkeypatch.setattr(envs, "_REGISTRY", {})
    environment = Halls()
    envs.register("halls", lambda: environment)
    return environment


@pytest.fixture
def config(tmp_path: pathlib.Path) -> str:
    (tmp_path / "halls.py").write_text(CONFIG, encoding="utf-8")
    return f"--config={tmp_path / 'halls.py'}"


class Scripted:
    """Answers a question by the function it is given: of what is shown to an action."""

    def __init__(self, choose):
        self.choose = choose

    def answer(self, questions):
        actions = [self.choose(question.messages[-1]["content"]) for question in questions]
        return [Response(f"Reasoning: so\nAction: {action}", "stop", 1, 1) for action in actions]


def ahead(shown: str) -> str:
    return OPEN if "east is closed" in shown else EAST


def play(environment, choose, *layouts):
    config = EpisodeConfig(SamplingParams(8, 0.0), PromptStyle(instructions="none"))
    with open_sessions(environment, [("hall", layout) for layout in layouts]) as sessions:
        return play_episodes(sessions, Scripted(choose), config=config)


def test_a_session_of_a_problem_shows_what_the_problem_says() -> None:
    environment = envs.get("robotouille")
    session = open_session(environment, "burger", "small:3")
    problem = session.problem
    assert (session.task, session.layout, session.goal) == ("burger", "small:3", problem.goal)
    assert isinstance(session, Judging) and session.planner.distance(session.state) > 0
    for _ in range(2):  # always the same episode
        seen, state = session.reset(), problem.initial_state()
        while not seen.done:
            assert (session.state, seen.observation) == (state, problem.observation(state))
            assert seen.valid_actions == problem.valid_actions(state) and not problem.is_goal(state)
            with pytest.raises(InvalidAction):
                session.step("Finish")
            action = session.planner.optimal_actions(state)[0]
            seen, state = session.step(action), problem.step(state, action)
        assert seen.success and problem.is_goal(state) and session.state == state
    session.close()


def test_an_episode_is_played_in_place(halls: Halls) -> None:
    solved, gone, lost = (play(halls, choose, "hall:7")[0] for choose in (ahead, lambda _: WINDOW, back_and_forth))
    assert (solved.success, solved.steps, solved.cap, solved.optimal_steps) == (True, 4, 12, None)
    assert [turn.action for turn in solved.turns] == [OPEN, EAST, EAST, EAST]
    assert {(t.expert, t.exact, t.optimal, t.distance) for t in solved.turns} == {(None,) * 4}
    assert solved.last_observation.startswith("You are at place4.")
    assert (gone.success, gone.failure, gone.steps, gone.counted_steps) == (False, "ended", 1, 12)
    assert (lost.failure, lost.steps) == ("loop", 12)  # what it shows stands for its state
    facts = summarise([solved, gone, lost])
    assert [facts[k] for k in ("excess_steps", "exact_rate", "optimal_rate")] == [None] * 3
    assert facts["unjudged"] == facts["responses"] == 17 and facts["failures"]["ended"] == 1
    assert halls.live == set()


def back_and_forth(shown: str) -> str:
    return WEST if WEST in shown and "place2" in shown else ahead(shown)


def test_several_sessions_do_not_meddle_with_each_other(halls: Halls) -> None:
    names = halls.layouts("hall", "hall", split="train", count=9)
    assert play(halls, ahead, *names) == [play(halls, ahead, name)[0] for name in names]


def test_sessions_are_closed_when_something_goes_wrong(halls: Halls) -> None:
    def choose(shown):
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        play(halls, choose, "hall:1", "hall:2")
    assert halls.live == set()


def test_what_cannot_be_had_of_sessions_alone_is_said(halls: Halls) -> None:
    with pytest.raises(UserError, match=r"env.failure=0.1 needs states that can be returned to"):
        FlakyEnvironment(halls, 0.1)
    with pytest.raises(UserError, match="object has neither make nor session"):
        open_session(object(), "hall", "hall:1")
    assert planner_of(halls, object()) is None
    assert not isinstance(halls.session("hall", "hall:1"), Judging)
    assert ProblemSession(envs.get("robotouille").make("burger", "default")).planner is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"expert.kind": "planner"}, "expert.kind='planner': 'halls' has no planner, use expert.kind='llm'"),
        ({"reward.target": "optimal"}, "reward.target='optimal': 'halls' has no planner"),
        ({"expert.max_excess": "0"}, "expert.max_excess=0: 'halls' has no planner"),
        ({"grpo.advantages": "exact"}, "grpo.advantages='exact': 'halls' has no planner to tell distances"),
        ({"env.failure": "0.1"}, "env.failure=0.1: 'halls' has sessions alone"),
    ],
)
def test_a_config_that_asks_for_a_planner_is_refused(halls: Halls, config: str, changes: dict, said: str) -> None:
    fields = [f"--config.{name}={value}" for name, value in changes.items()]
    (error,) = validate(parse(["sft", config, "--dry_run", "--config.expert.server=http://h:1", *fields]).config)
    assert error.startswith(said) and "\n" not in error


def test_it_cannot_be_played_by_a_person(halls: Halls, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["play", "--env=halls"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "stgrpo: --env=halls cannot be played by a person: it has no method play\n"


def test_all_stages_do_without_planner_and_states(
    halls: Halls, config: str, chat, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
    tried: set[str] = set()

    def reply(body):
        shown = body["messages"][-1]["content"]
        if not tried:
            tried.add(shown)
            return "I do not know"
        return f"Reasoning: {shown.splitlines()[0]}\nAction: {ahead(shown)}"

    server, workdir = f"--config.expert.server={chat(reply).address}", tmp_path / "w"
    main(["collect", config, server, "--dry_run"])
    assert "6 trajectories from at most 12 layouts" in capsys.readouterr().out
    for stage in ("collect", "sft", "grpo", "evaluate", "report"):
        main([stage, config, server, f"--workdir={workdir}"])
    said = capsys.readouterr().out

    trajectories = read_trajectories(workdir / "data" / "hall" / "train.jsonl")
    steps = [step for trajectory in trajectories for step in trajectory.steps]
    assert len(trajectories) == 6 and {(s.optimal_actions, s.distance) for s in steps} == {(None, None)}
    assert all(s.action == ahead(s.observation) and s.valid_actions[-1] == WINDOW for s in steps)
    facts = json.loads((workdir / "expert" / "hall" / "train.json").read_text())
    assert (facts["kept"], facts["failures"], facts["mean_excess"], facts["excess"]) == (6, {"format": 1}, None, {})
    assert "steps on average, no planner to say how far above the optimum" in said

    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["stage"] in ("sft", "grpo")]
    assert [row["stage"] for row in rows] == ["sft"] * 3 + ["grpo"] * 2
    assert "reward" in rows[-1] and "validation_sr" in rows[-1]

    evaluation = read_evaluation(workdir / "evaluation", "grpo_unseen")
    assert evaluation.summary["n"] == 3 and evaluation.summary["unjudged"] == evaluation.summary["responses"] > 0
    assert [evaluation.summary[k] for k in ("excess_steps", "exact_rate", "optimal_rate")] == [None] * 3
    assert "grpo_unseen: no response is judged, as without a planner" in said
    page = (workdir / "report.html").read_text()
    assert "The door to the east is" in page and re.search(r"<th[^>]*>Hall, train</th>", page)
    assert halls.live == set()
