"""The messages of every instruction style and history policy."""

import hashlib

import pytest

from stgrpo import envs
from stgrpo.envs.stochastic import FlakyEnvironment
from stgrpo.protocol import GENERAL, Instructions, instructions_of
from stgrpo.react.prompt import PromptStyle, Turn, render_messages

OBSERVATION = "Station table1:\ntable1 is a table\n\nValid Actions:\nDo nothing\n\nGoal: Prepare a hamburger on a table"
LAST = Turn(reasoning="patty1 is at table2.", action="Do nothing")


def test_bare_prompt_is_the_observation_alone() -> None:
    messages = render_messages(OBSERVATION, style=PromptStyle("none", "none"), last=LAST)
    assert messages == [{"role": "user", "content": OBSERVATION}]


@pytest.mark.parametrize(
    ("history", "said"),
    [
        ("last_action", "Previous Action: Do nothing"),
        ("last_reasoning_action", "Previous Reasoning: patty1 is at table2.\n\nPrevious Action: Do nothing"),
    ],
)
def test_history_is_one_pair_in_the_benchmark_wording(history: str, said: str) -> None:
    style = PromptStyle("none", history)
    assert render_messages(OBSERVATION, style=style, last=LAST) == [
        {"role": "user", "content": "Previous Observation: Omitted"},
        {"role": "assistant", "content": said},
        {"role": "user", "content": OBSERVATION},
    ]
    assert len(render_messages(OBSERVATION, style=style)) == 1  # there is nothing to repeat in the first turn


def test_feedback_comes_before_the_observation() -> None:
    messages = render_messages(OBSERVATION, style=PromptStyle("none"), feedback="The action 'Fly' is not valid.")
    assert messages[-1]["content"] == f"Error Feedback: The action 'Fly' is not valid.\n{OBSERVATION}"


def test_full_instructions_tell_what_the_environment_does_between_input_and_answer() -> None:
    own = Instructions("Walk home.", "It says where you are.", "Rules:\n1. Do not run.")
    for about, parts in {GENERAL: [GENERAL.task], own: [own.task, own.observation, own.rules]}.items():
        system, user = render_messages(OBSERVATION, style=PromptStyle(about=about))
        assert system["role"] == "system" and user == {"role": "user", "content": OBSERVATION}
        text = system["content"]
        assert text.startswith(about.task + "\n\n") and text.endswith("copied to the letter")
        places = [
            text.index(part) for part in (*parts[:1], "Input:", *parts[1:], "Answer with", "Reasoning:", "Action:")
        ]
        assert places == sorted(places) and "Error Feedback:" in text
        assert "\n\n\n" not in text and "  " not in text


def test_kitchens_are_explained_as_ever() -> None:
    """Byte for byte: policies were trained with this text."""
    style = PromptStyle(about=instructions_of(envs.get("robotouille")))
    (text,) = (m["content"] for m in render_messages(OBSERVATION, style=style) if m["role"] == "system")
    for word in ("Unstack", "Hamburger", "Sandwich", "Soup", "three cut actions"):
        assert word in text
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "656bda50359f0a94"
    assert instructions_of(FlakyEnvironment(envs.get("robotouille"), 0.1)) is style.about


def test_unknown_styles_are_refused() -> None:
    with pytest.raises(ValueError, match="'some' is not one of full, none"):
        PromptStyle(instructions="some")
    with pytest.raises(ValueError, match="'all' is not one of none, last_action, last_reasoning_action"):
        PromptStyle(history="all")
