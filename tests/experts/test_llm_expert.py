"""Rejection sampling with a policy that plays by a script: what is tried, what is kept, and what is asked twice."""

import threading

import pytest

from stgrpo import envs
from stgrpo.data.records import read_trajectories, write_trajectories
from stgrpo.envs.sessions import ProblemSession
from stgrpo.errors import ServerError, UserError
from stgrpo.evaluation.episodes import EpisodeConfig
from stgrpo.evaluation.journal import Journal
from stgrpo.experts.llm_expert import Budget, LlmExpert, as_told, summary, trajectory
from stgrpo.react.policy import Response, SamplingParams
from stgrpo.react.prompt import PromptStyle

CONFIG = EpisodeConfig(params=SamplingParams(64, 0.7), style=PromptStyle("full", "last_action"), seed=5)
PATHS = {"Right": 1, "Left": -1}


class Corridor:
    """Stand at 0, reach place 3; layouts "c0", "c1", ... are alike."""

    task, goal, max_steps = "corridor", "Stand at 3", 9

    def __init__(self, layout):
        self.layout = layout

    def initial_state(self):
        return 0

    def observation(self, state):
        return f"{self.layout} {state}"

    def valid_actions(self, state):
        return ("Left", "Right")

    def step(self, state, action):
        return state + PATHS[action]

    def is_goal(self, state):
        return state == 3

    def distance(self, state):
        return abs(3 - state)

    def optimal_actions(self, state):
        return ("Right",) if state < 3 else ("Left",)


class Unplanned:
    def tasks(self):
        return ("corridor",)

    def families(self):
        return ("c",)

    def benchmark_layouts(self, task):
        return ()

    def layouts(self, task, family, *, split, count, seed=0):
        return LAYOUTS[:count]

    def make(self, task, layout):
        return Corridor(layout)


class Corridors(Unplanned):
    def planner(self, problem):
        return problem


class Script:
    """Plays each try of each kitchen as `plan(layout, try)` says: the number of steps lost, or None to fail."""

    def __init__(self, plan):
        self.plan, self.tries, self.asked, self.lock = plan, {}, [], threading.Lock()
        self.local = threading.local()

    def answer(self, questions):
        (question,) = questions
        layout, state = question.messages[-1]["content"].split()
        with self.lock:
            self.asked.append((layout, int(state), question.seed))
            if len(question.messages) == 2:  # no history: an episode begins
                self.tries[layout] = self.tries.get(layout, -1) + 1
                self.local.lost = self.plan(layout, self.tries[layout])
        if self.local.lost is None:
            return [Response("I give up", "stop", 7, 3)]
        action = "Left" if self.local.lost > 0 else "Right"
        self.local.lost -= 2 if action == "Left" else 0
        return [Response(f"Reasoning: at {state}\nAction: {action}", "stop", 7, 5)]


LAYOUTS = [f"c{i}" for i in range(8)]


def collect(path, plan, budget, *, workers=1, layouts=LAYOUTS, seen=None, environment=None):
    script, journal = plan if isinstance(plan, Script) else Script(plan), Journal(path, {})
    expert = LlmExpert(environment or Corridors(), script, config=CONFIG, budget=budget, journal=journal)
    show = seen.append if seen is not None else lambda kitchens: None
    try:
        kitchens = expert.collect("corridor", layouts, workers=workers, on_error=lambda: None, progress=show)
    finally:
        journal.close()
    return kitchens, script


def tried(kitchens):
    return {k.layout: [e.steps if e.success else None for e in k.episodes] for k in kitchens}


def test_a_kitchen_is_tried_until_it_is_solved(tmp_path):
    kitchens, _ = collect(tmp_path / "j", lambda layout, n: 0 if n == 2 else None, Budget(2, tries=5))
    assert tried(kitchens) == {"c0": [None, None, 3], "c1": [None, None, 3]}


def test_a_kitchen_that_takes_its_budget_is_given_up_for_the_next(tmp_path):
    budget = Budget(2, tries=3)
    kitchens, _ = collect(tmp_path / "j", lambda layout, n: None if layout in ("c0", "c2") else 0, budget)
    assert tried(kitchens) == {"c0": [None] * 3, "c1": [3], "c2": [None] * 3, "c3": [3]}
    assert [k.kept is not None for k in kitchens] == [False, True, False, True]
    facts = summary(kitchens)
    assert (facts["layouts"], facts["episodes"], facts["successes"], facts["kept"]) == (4, 8, 2, 2)
    assert facts["failures"] == {"format": 6}


def test_all_kitchens_may_be_used_up(tmp_path):
    kitchens, script = collect(tmp_path / "j", lambda layout, n: None, Budget(3, tries=2))
    assert tried(kitchens) == {layout: [None, None] for layout in LAYOUTS}
    assert summary(kitchens)["mean_steps"] is None
    assert len(set(script.asked)) == len(script.asked) == 16  # each try has a seed of its own


def test_the_shortest_of_several_is_kept_with_how_far_it_is_from_optimal(tmp_path):
    lost = {"c0": (4, 2, 4), "c1": (2, 0, 4)}
    budget = Budget(2, tries=9, successes=3)
    kitchens, _ = collect(tmp_path / "j", lambda layout, n: lost[layout][n], budget)
    assert tried(kitchens) == {"c0": [7, 5, 7], "c1": [5, 3, 7]}
    assert [k.kept.steps for k in kitchens] == [5, 3]
    facts = summary(kitchens)
    assert (facts["mean_steps"], facts["mean_excess"], facts["excess"]) == (4.0, 1.0, {"0": 1, "2": 1})


def test_a_success_that_is_too_long_does_not_count(tmp_path):
    budget = Budget(1, tries=3, max_excess=1)
    kitchens, _ = collect(tmp_path / "j", lambda layout, n: (2, 4, 0)[n] if layout == "c1" else 2, budget)
    assert tried(kitchens) == {"c0": [5, 5, 5], "c1": [5, 7, 3]}
    assert [k.kept and k.kept.steps for k in kitchens] == [None, 3]
    assert (summary(kitchens)["successes"], summary(kitchens)["unfit"]) == (6, 5)


def test_a_success_of_which_the_planner_cannot_tell_all_does_not_count(tmp_path, monkeypatch):
    def distance(self, state):
        if state < 0:
            raise UserError("planner: no proof in 30 s")
        return abs(3 - state)

    monkeypatch.setattr(Corridor, "distance", distance)
    kitchens, _ = collect(tmp_path / "j", lambda layout, n: (2, 0)[n], Budget(1, tries=2))
    assert tried(kitchens) == {"c0": [5, 3]} and kitchens[0].kept.steps == 3


def test_a_success_that_the_learner_has_no_room_for_does_not_count(tmp_path):
    def fits(episode):
        steps = as_told(episode).steps
        assert [s.reasoning for s in steps][:1] == ["at 0"] and steps[0].observation.endswith(" 0")
        return len(steps) < 6

    kitchens, _ = collect(tmp_path / "j", lambda layout, n: (4, 4, 2)[n], Budget(1, tries=3, fits=fits))
    assert tried(kitchens) == {"c0": [7, 7, 5]} and kitchens[0].kept.steps == 5


@pytest.mark.parametrize("workers", [2, 5, 20])
def test_the_number_of_workers_changes_nothing_and_wastes_nothing(tmp_path, workers):
    def plan(layout, n):
        return {"c1": None, "c4": None}.get(layout, 0 if n else None)

    budget = Budget(5, tries=2)
    alone, one = collect(tmp_path / "1", plan, budget)
    together, many = collect(tmp_path / "2", plan, budget, workers=workers)
    assert tried(together) == tried(alone) and len(alone) == 7
    assert sorted(one.asked) == sorted(many.asked)


def test_what_broke_off_goes_on_exactly(tmp_path):
    def plan(layout, n):
        return {"c0": (None, 2), "c1": (None, None), "c2": (4, 0)}.get(layout, (0, 0))[n]

    class Dying(Script):
        def answer(self, questions):
            if len(self.asked) == 9:
                raise ServerError("gone")
            return super().answer(questions)

    budget = Budget(3, tries=2)
    whole, uninterrupted = collect(tmp_path / "1", plan, budget)
    dying = Dying(plan)
    with pytest.raises(ServerError, match="gone"):
        collect(tmp_path / "2", dying, budget)
    lines = (tmp_path / "2").read_bytes().count(b"\n")
    assert 1 < lines < len((tmp_path / "1").read_bytes().splitlines())
    rest = Script(plan)
    rest.tries = {"c0": 1, "c1": 1, "c2": -1}  # what the journal has
    resumed, _ = collect(tmp_path / "2", rest, budget)
    assert tried(resumed) == tried(whole)
    assert (tmp_path / "2").read_bytes() == (tmp_path / "1").read_bytes()
    played = [a for a in dying.asked if a[0] != "c2"]
    assert played + rest.asked == uninterrupted.asked  # only the try that was cut off is asked again


def test_progress_is_told_after_each_kitchen(tmp_path):
    seen = []
    collect(tmp_path / "j", lambda layout, n: 0, Budget(3, tries=1), seen=seen)
    assert [len(kitchens) for kitchens in seen] == [1, 2, 3]


def test_a_success_becomes_the_records_that_training_reads(tmp_path):
    budget = Budget(1, tries=1)
    (kitchen,), _ = collect(tmp_path / "j", lambda layout, n: 2, budget)
    made = kitchen.learned
    assert [s.action for s in made.steps] == ["Left", "Right", "Right", "Right", "Right"]
    assert [s.distance for s in made.steps] == [3, 4, 3, 2, 1]
    assert {s.optimal_actions for s in made.steps} == {("Right",)}
    assert [s.reasoning for s in made.steps][:2] == ["at 0", "at -1"]
    assert [s.observation for s in made.steps][:2] == ["c0 0", "c0 -1"]
    write_trajectories(tmp_path / "t.jsonl", [made])
    assert read_trajectories(tmp_path / "t.jsonl") == [made]


def test_an_episode_of_another_kitchen_is_refused(tmp_path):
    (one, _), _ = collect(tmp_path / "j", lambda layout, n: 0, Budget(2, tries=1))
    with pytest.raises(UserError, match="corridor c1: step 0 was played in another layout"):
        trajectory(ProblemSession(Corridor("c1")), one.episodes[0])


def test_without_a_planner_the_shortest_success_is_kept_and_nothing_is_said_of_the_optimum(tmp_path):
    lost = {"c0": (4, 2, 4)}
    budget, environment = Budget(1, tries=3, successes=3), Unplanned()
    (kitchen,), _ = collect(tmp_path / "j", lambda layout, n: lost[layout][n], budget, environment=environment)
    assert tried([kitchen]) == {"c0": [7, 5, 7]} and kitchen.kept.steps == 5
    assert {(s.optimal_actions, s.distance) for s in kitchen.learned.steps} == {(None, None)}
    assert {s.valid_actions for s in kitchen.learned.steps} == {("Left", "Right")}
    facts = summary([kitchen])
    assert (facts["mean_steps"], facts["mean_excess"], facts["excess"]) == (5.0, None, {})


def test_in_a_real_kitchen_the_records_are_the_planner_experts(tmp_path):
    """A policy that says what the planner's expert says gives the planner's expert's own trajectory."""
    from stgrpo.experts.planner_expert import PlannerExpert

    environment = envs.get("robotouille")
    (layout,) = environment.layouts("burger", "small", split="train", count=1)
    problem = environment.make("burger", layout)
    planned = PlannerExpert(problem, environment.planner(problem)).trajectory()
    answers = {s.observation: f"Reasoning: {s.reasoning}\nAction: {s.action}" for s in planned.steps}

    class Parrot:
        def answer(self, questions):
            return [Response(answers[q.messages[-1]["content"]], "stop", 1, 1) for q in questions]

    journal, budget = Journal(tmp_path / "j", {}), Budget(1, tries=1)
    expert = LlmExpert(environment, Parrot(), config=CONFIG, budget=budget, journal=journal)
    (kitchen,) = expert.collect("burger", [layout], workers=1, on_error=lambda: None, progress=lambda k: None)
    assert kitchen.learned == planned
    assert summary([kitchen])["excess"] == {"0": 1}
