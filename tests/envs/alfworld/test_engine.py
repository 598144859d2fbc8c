"""The engine says what the real package says: its recorded games, and rules worked by hand."""

import json
import pathlib

import pytest

from stgrpo.envs.alfworld import load
from stgrpo.envs.alfworld.layouts.games import open_games
from stgrpo.errors import UserError
from stgrpo.protocol import InvalidAction


def played(problem, *commands):
    state = problem.initial_state()
    for command in commands:
        state = problem.step(state, command)
    return state


def says(problem, *commands):
    return problem.feedback(played(problem, *commands))


def test_every_line_of_the_recorded_games_is_equal(real_traces: list[dict], pack: pathlib.Path) -> None:
    games, compared = open_games(str(pack)), 0
    for trace in real_traces:
        split, _, name = trace["game"].partition("/")
        problem = load(games.game(split, games.names(split).index(name)))
        state = problem.initial_state()
        for step in trace["steps"]:
            if command := step.get("command"):
                is_known = command in problem.admissible_commands(state)
                state = problem.step(state, command) if is_known else problem.unknown(state, command)
            assert problem.feedback(state) == step["text"]
            assert list(problem.admissible_commands(state)) == step["commands"]
            assert problem.is_goal(state) == step["won"]
            compared += 1
    assert compared > 400


def test_whoever_faces_a_receptacle_faces_all_at_its_location(make_game) -> None:
    problem = load(make_game())
    at_desk = played(problem, "go to desk 1")
    assert problem.feedback(at_desk) == "You arrive at desk 1. On the desk 1, you see a bowl 1, and a mug 1."
    commands = problem.admissible_commands(at_desk)
    assert "open drawer 1" in commands and not {"go to drawer 1", "go to desk 1"} & set(commands)
    assert commands == tuple(sorted(commands))
    assert (
        says(problem, "go to desk 1", "look") == "You are facing the desk 1, and drawer 1. Next to it, you see nothing."
    )


def test_a_lamp_in_a_closed_drawer_can_be_switched(make_game) -> None:
    problem = load(make_game())
    assert says(problem, "go to drawer 1") == "You arrive at drawer 1. The drawer 1 is closed."
    assert says(problem, "go to drawer 1", "use desklamp 1") == "You turn on the desklamp 1."


def test_what_was_taken_is_missed_where_it_lay(make_game) -> None:
    """The package notes where things were taken from; put down elsewhere at the same place they lie "next to it"."""
    problem = load(make_game())
    moved = ("go to desk 1", "open drawer 1", "take mug 1 from desk 1", "move mug 1 to drawer 1", "look")
    assert says(problem, *moved) == "You are facing the desk 1, and drawer 1. Next to it, you see a mug 1."


@pytest.mark.parametrize(
    ("commands", "said"),
    [
        ((), "There's nothing special about apple 1."),
        (("heat",), "This is a hot apple 1."),
        (("cool",), "This is a cold apple 1."),
        (("clean",), "This is a clean apple 1."),
        (("heat", "clean"), "This is a hot and clean apple 1."),
        (("clean", "heat", "cool"), "This is a cool and clean apple 1."),
    ],
)
def test_things_are_described_in_the_words_of_the_grammar(make_game, commands: tuple[str, ...], said: str) -> None:
    stations = {"heat": "microwave 1", "cool": "fridge 1", "clean": "sinkbasin 1"}
    game = make_game()
    game["pddl_problem"] = game["pddl_problem"].replace("(isCool Apple_bar__plus_01_dot_00)", "")
    problem = load(game)
    done = ["go to fridge 1", "open fridge 1", "take apple 1 from fridge 1"]
    for verb in commands:
        go = f"go to {stations[verb]}"
        done += [go] if go in problem.admissible_commands(played(problem, *done)) else []
        done += [f"{verb} apple 1 with {stations[verb]}"]
    assert says(problem, *done, "examine apple 1") == said


def test_what_is_sliced_is_called_so(make_game) -> None:
    problem = load(make_game())
    knife = (
        "go to fridge 1",
        "open fridge 1",
        "take apple 1 from fridge 1",
        "go to shelf 1",
        "move apple 1 to shelf 1",
    )
    sliced = (*knife, "take knife 1 from shelf 1", "slice apple 1 with knife 1")
    assert says(problem, *sliced) == "You sliced the apple 1 with the knife 1."
    after = (*sliced, "move knife 1 to shelf 1", "take apple 1 from shelf 1")
    assert says(problem, *after, "examine apple 1") == "This is a cool sliced apple 1."


def test_a_bowl_is_described_by_what_is_in_it(make_game) -> None:
    bowl = ("go to desk 1", "take bowl 1 from desk 1", "examine bowl 1")
    assert says(load(make_game()), *bowl) == "This is a normal bowl 1. In it, you see nothing."


def test_words_that_are_no_command_change_nothing_but_the_text(make_game) -> None:
    problem = load(make_game())
    state = played(problem, "go to desk 1")
    after = problem.unknown(state, "dance")
    assert problem.feedback(after) == "Nothing happens."
    assert problem.admissible_commands(after) == problem.admissible_commands(state)
    with pytest.raises(InvalidAction, match="'take mug 1 from drawer 1' is not admissible"):
        problem.step(state, "take mug 1 from drawer 1")


def test_the_older_wording_is_there_by_option_and_by_the_grammar(make_game) -> None:
    problem = load(make_game(), wording="0.3")
    commands = ("go to desk 1", "take mug 1 from desk 1", "go to shelf 1")
    assert says(problem, "go to desk 1").startswith("You arrive at loc 6. On the desk 1, you see")
    assert "help" not in problem.admissible_commands(problem.initial_state())
    moved = says(problem, *commands, "put mug 1 in/on shelf 1")
    assert moved == "You put the mug 1 in/on the shelf 1."
    old = make_game()
    old["grammar"] += 'template :: "put {o} in/on {r}";'
    assert load(old).wording == problem.wording
    with pytest.raises(UserError, match=r"wording='0.2' is unknown: did you mean '0\.[34]'"):
        load(make_game(), wording="0.2")


def test_the_observation_tells_what_was_seen_and_nothing_else(make_game) -> None:
    problem = load(make_game())
    state = played(
        problem, "go to desk 1", "take mug 1 from desk 1", "go to sinkbasin 1", "clean mug 1 with sinkbasin 1"
    )
    memory, _, rest = problem.observation(state).partition("\n\nValid Actions:\n")
    assert memory.splitlines() == [
        "You have seen:",
        "desk 1: bowl 1",
        "sinkbasin 1: nothing",
        "mug 1 is clean.",
        "You are at sinkbasin 1 and carry mug 1.",
        "You clean the mug 1 using the sinkbasin 1.",
    ]
    commands, _, goal = rest.partition("\n\nGoal: ")
    assert tuple(commands.splitlines()) == problem.valid_actions(state)
    assert goal == problem.goal == "put a mug in shelf."


def test_with_full_hands_only_what_is_named_is_seen(make_game) -> None:
    """Empty hands are shown what they could take out of every open receptacle that they face."""
    problem, full = load(make_game()), ("go to desk 1", "take mug 1 from desk 1", "go to shelf 1", "go to drawer 1")
    names = problem.room.receptacles
    seen = {names[receptacle] for receptacle in played(problem, *full).seen}
    assert seen == {"desk 1", "shelf 1"}
    seen = {names[receptacle] for receptacle in played(problem, "go to drawer 1").seen}
    assert seen == {"desk 1"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pddl_problem": 3}, "the game is no game of ALFWorld (without the texts pddl_problem and grammar"),
        ({"pddl_problem": "(:init )"}, "the game is no game of ALFWorld (without (:init ...) and (:goal ...)"),
        ({"grammar": "none"}, 'the game is no game of ALFWorld (without a line "Your task is to: ..."'),
        ({"pddl_problem": "(:init (a b)) (:goal (and (pushed ?o)))"}, "the game has a goal of none of the six types"),
    ],
)
def test_what_is_no_game_is_refused_in_a_line(make_game, change: dict, said: str) -> None:
    with pytest.raises(UserError) as caught:
        load(make_game() | change)
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)


@pytest.mark.parametrize("fact", ["receptacleAtLocation Desk_bar", "objectType Mug_bar", "atLocation agent1"])
def test_facts_that_do_not_fit_together_are_named(make_game, fact: str) -> None:
    game = make_game()
    game["pddl_problem"] = game["pddl_problem"].replace(f"({fact}", "(nothing Desk_bar")
    with pytest.raises(UserError, match="its facts do not fit together at "):
        load(game)


def test_a_broken_file_is_named(tmp_path: pathlib.Path, make_game) -> None:
    file = tmp_path / "game.tw-pddl"
    with pytest.raises(UserError, match="game.tw-pddl: No such file or directory: give the path of a game.tw-pddl"):
        load(file)
    for content, said in (("{", "not JSON"), ("[]", "no JSON object")):
        file.write_text(content, encoding="utf-8")
        with pytest.raises(UserError, match=f"game.tw-pddl is no game of ALFWorld .{said}"):
            load(file)
    file.write_text(json.dumps(make_game()), encoding="utf-8")
    assert load(str(file)).task == "pick_and_place_simple"
