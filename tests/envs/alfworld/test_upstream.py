"""The package plays as our engine does, made rooms and both wordings. Skipped where it is not installed."""

import importlib.util
import random

import pytest

from stgrpo.envs.alfworld import load
from stgrpo.envs.alfworld.game.room import TASKS
from stgrpo.envs.alfworld.layouts.generator import made_game
from stgrpo.envs.alfworld.upstream import UpstreamAlfworld, UpstreamProblem, game_content
from stgrpo.errors import UserError
from stgrpo.protocol import InvalidAction

INSTALLED = all(importlib.util.find_spec(name) for name in ("alfworld", "textworld", "fast_downward"))
needs_package = pytest.mark.skipif(not INSTALLED, reason="the package is not installed: pip install 'stgrpo[alfworld]'")
OLD = (  # what the grammar said before version 0.4
    ('"You arrive at {r.name}. ', '"You arrive at {lend.name}. '),
    ("You move the {o.name} to the {r.name}.", "You put the {o.name} in/on the {r.name}."),
    ("move {o} to {r}", "put {o} in/on {r}"),
)


def compare(theirs: UpstreamProblem, steps: int, seed: int) -> None:
    """Walks both engines, then returns the package to states it has left, in any order."""
    ours, rng, met = theirs.ours, random.Random(seed), []
    state, other = ours.initial_state(), theirs.initial_state()
    for _ in range(steps):
        assert theirs.observation(other) == ours.observation(state)
        assert (theirs.feedback(other), theirs.is_goal(other)) == (ours.feedback(state), ours.is_goal(state))
        assert theirs.admissible_commands(other) == ours.admissible_commands(state)
        assert other.ours == state
        met.append((state, other))
        commands = ours.admissible_commands(state)
        command = rng.choice([c for c in commands if rng.random() < 0.4 or not c.startswith("go")])
        state, other = ours.step(state, command), theirs.step(other, command)
    for state, other in rng.sample(met, 5):
        command = rng.choice(ours.admissible_commands(state))
        assert theirs.step(other, command).said == ours.feedback(ours.step(state, command))
        assert theirs.unknown(other, "dance").said == "Nothing happens."


@needs_package
@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_the_package_plays_rooms_of_ours_the_same(task: str) -> None:
    theirs = UpstreamAlfworld().make(task, "small:11")
    compare(theirs, 25, seed=1)
    with pytest.raises(InvalidAction):
        theirs.step(theirs.initial_state(), "dance")


@needs_package
@pytest.mark.slow
def test_the_older_grammar_says_what_the_older_wording_says() -> None:
    content = game_content(made_game(TASKS[2], "small", 3))
    for new, old in OLD:
        assert new in content["grammar"]
        content["grammar"] = content["grammar"].replace(new, old)
    content["grammar"] = content["grammar"].partition("action help")[0]
    content["pddl_domain"] = content["pddl_domain"].partition("(:action help")[0] + ")"
    compare(UpstreamProblem(load(content), content), 25, seed=2)


@pytest.mark.skipif(INSTALLED, reason="the package is installed")
def test_without_the_package_a_line_says_how_to_get_it() -> None:
    with pytest.raises(UserError, match=r"env.engine='upstream': No module named .*: pip install 'stgrpo\[alfworld\]'"):
        UpstreamAlfworld()
