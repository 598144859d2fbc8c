"""A grid so small that all of it is enumerated, and a policy by hand whose every probability is known."""

import dataclasses
import math
import random
from collections.abc import Mapping, Sequence

from stgrpo.protocol import InvalidAction
from stgrpo.react.policy import Question, Response
from stgrpo.react.response import format_response

MOVES = {"Go east": (1, 0), "Go north": (0, 1), "Go west": (-1, 0), "Go south": (0, -1)}
State = tuple[int, int]


class Crossing:
    """From the south-west corner to the north-east one; "grid:WxH" has binomial(W + H - 2, W - 1) shortest ways."""

    task, goal = "cross", "Stand in the north-east corner"

    def __init__(self, layout: str, max_steps: int = 8):
        self.layout, self.max_steps = layout, max_steps
        self.size = tuple(map(int, layout.removeprefix("grid:").split("x")))

    def initial_state(self) -> State:
        return 0, 0

    def observation(self, state: State) -> str:
        return f"{self.layout} at {state[0]},{state[1]}"

    def valid_actions(self, state: State) -> tuple[str, ...]:
        return tuple(move for move in MOVES if self._after(state, move) is not None)

    def _after(self, state: State, move: str) -> State | None:
        at = tuple(a + b for a, b in zip(state, MOVES[move], strict=True))
        return at if all(0 <= a < size for a, size in zip(at, self.size, strict=True)) else None

    def step(self, state: State, action: str) -> State:
        if action not in self.valid_actions(state):
            raise InvalidAction(action)
        return self._after(state, action)

    def is_goal(self, state: State) -> bool:
        return self.distance(state) == 0

    def distance(self, state: State) -> int:
        return sum(size - 1 - at for at, size in zip(state, self.size, strict=True))

    def optimal_actions(self, state: State) -> tuple[str, ...]:
        return tuple(a for a in self.valid_actions(state) if self.distance(self.step(state, a)) < self.distance(state))


class Grids:
    """What environments of crossings share."""

    def tasks(self):
        return ("cross",)

    def families(self):
        return ("all",)

    def benchmark_layouts(self, task):
        return ()


@dataclasses.dataclass(frozen=True)
class Thought:
    """A reasoning with its probability, and the probabilities of the actions after it; the rest is unusable."""

    text: str
    weight: float
    actions: Mapping[str, float]


class HandMade:
    """Answers by a table of thoughts for each observation; letters are its tokens, and 0 ends an answer.

    It has two spellings of each answer: one token that is odd in the place of the first letter is never its own.
    """

    max_tokens = 200

    def __init__(self, table: Mapping[str, Sequence[Thought]], odd: float = 0.0):
        self.table, self.odd, self.asked = table, odd, 0

    def truth(self, observation: str, action: str) -> float:
        """The probability that an answer takes an action."""
        return sum(t.weight * t.actions.get(action, 0.0) for t in self.table[observation])

    def answer(self, questions: Sequence[Question]) -> list[Response | None]:
        self.asked += len(questions)
        return [self._draw(q.messages[-1]["content"], random.Random(q.seed)) for q in questions]

    def _draw(self, observation: str, rng: random.Random) -> Response:
        thoughts = self.table[observation]
        thought = rng.choices(thoughts, [t.weight for t in thoughts])[0]
        names, weights = list(thought.actions), list(thought.actions.values())
        action = rng.choices([*names, None], [*weights, max(0.0, 1 - sum(weights))])[0]
        text = "I give up" if action is None else format_response(thought.text, action)
        ids = self.encode([text])[0]
        if rng.random() < self.odd:
            ids = (-1, *ids[1:])
        return Response(text, "stop", 1, len(ids), ids=ids)

    def encode(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        return [(*map(ord, text), 0) for text in texts]

    def score(self, asked) -> list[list[float]]:
        return [[self._logprob(messages[-1]["content"], ids) for ids in answers] for messages, answers in asked]

    def _logprob(self, observation: str, ids: Sequence[int]) -> float:
        text = "".join(map(chr, ids[:-1]))
        for thought in self.table[observation]:
            for action, p in thought.actions.items():
                if text == format_response(thought.text, action):
                    return math.log(thought.weight * p * (1 - self.odd)) if p else -1e9
        return -1e9


def hand_made(
    problems: Sequence[Crossing], *, seed: int = 0, thoughts: int = 3, skill: float = 0.6, **rest
) -> HandMade:
    """A policy with random probabilities in every state of some problems.

    Args:
        problems: that it can play.
        seed: of its probabilities.
        thoughts: reasonings in a state; with 1, all answers share theirs.
        skill: about the share of the first optimal action; a twentieth of all answers is unusable.
        rest: of `HandMade`.
    """
    rng, table = random.Random(seed), {}
    for problem in problems:
        for state in ((x, y) for x in range(problem.size[0]) for y in range(problem.size[1])):
            table[problem.observation(state)] = [
                _thought(problem, state, i, thoughts, skill, rng) for i in range(thoughts)
            ]
    return HandMade(table, **rest)


def _thought(problem: Crossing, state: State, number: int, count: int, skill: float, rng: random.Random) -> Thought:
    actions = problem.valid_actions(state)
    weights = [rng.uniform(0.2, 1.0) for _ in actions]
    for action in problem.optimal_actions(state)[:1]:
        weights[actions.index(action)] += len(actions) * skill
    usable = 0.95 / sum(weights)
    return Thought(f"Thought {number}.", 1 / count, {a: w * usable for a, w in zip(actions, weights, strict=True)})
