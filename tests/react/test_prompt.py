"""The messages of every instruction style and history policy."""

import pytest

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


def test_full_instructions_tell_formats_rules_and_recipes() -> None:
    system, user = render_messages(OBSERVATION, style=PromptStyle())
    assert system["role"] == "system" and user == {"role": "user", "content": OBSERVATION}
    for word in ("Reasoning:", "Action:", "Error Feedback:", "Unstack", "Hamburger", "Sandwich", "Soup"):
        assert word in system["content"]


def test_unknown_styles_are_refused() -> None:
    with pytest.raises(ValueError, match="'some' is not one of full, none"):
        PromptStyle(instructions="some")
    with pytest.raises(ValueError, match="'all' is not one of none, last_action, last_reasoning_action"):
        PromptStyle(history="all")
