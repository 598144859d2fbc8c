"""Each rule of the benchmark's parsing, worked by hand."""

import pytest

from stgrpo.react.response import ParsedResponse, feedback, format_response, parse_response

VALID = ("Move robot1 from table1 to table2", "Pick up patty1 from table1 using robot1", "Do nothing")
MOVE = VALID[0]


@pytest.mark.parametrize(
    ("text", "failure", "action"),
    [
        (f"Reasoning: go.\nAction: {MOVE}", "", MOVE),
        (f"Reasoning:\n\ngo.\n\nAction: {MOVE}", "", MOVE),
        (f"Reasoning: go.\nAction:\n{MOVE}", "", MOVE),
        (f"Sure!\nReasoning: go.\nAction:   {MOVE}  \nThat is all.", "", MOVE),
        (f"Reasoning: go.\r\nAction: {MOVE}\r\n", "", MOVE),
        (f"Action: {MOVE}\nReasoning: go. Action: something", "", MOVE),
        (f"go.\nAction: {MOVE}", "reasoning", MOVE),
        (f" Reasoning: go.\nAction: {MOVE}", "reasoning", MOVE),
        (f"**Reasoning:** go.\n**Action:** {MOVE}", "reasoning", None),
        (f"reasoning: go.\naction: {MOVE}", "reasoning", None),
        ("Reasoning: go.", "reasoning", None),
        ("", "reasoning", None),
        (f"Reasoning: go. Action: {MOVE}", "action", None),
        (f"Reasoning: go.\n Action: {MOVE}", "action", None),
        ("Reasoning: go.\nAction:", "action", None),
        (f"Reasoning: go.\nAction: {MOVE}.", "invalid", f"{MOVE}."),
        (f"Reasoning: go.\nAction: {MOVE.lower()}", "invalid", MOVE.lower()),
        (f"Reasoning: go.\nAction: **{MOVE}**", "invalid", f"**{MOVE}**"),
        ("Reasoning: go.\nAction: Move robot1 from table1 to table3", "invalid", "Move robot1 from table1 to table3"),
        (f"Reasoning: go.\nAction: {VALID[1]}\nAction: Fly", "", VALID[1]),
        (f"Reasoning: go.\nAction: Fly\nAction: {VALID[1]}", "invalid", "Fly"),
        ("Reasoning: go.\nAction: Finish", "finish", "Finish"),
    ],
)
def test_parsing(text: str, failure: str, action: str | None) -> None:
    parsed = parse_response(text, VALID)
    assert (parsed.failure, parsed.action) == (failure, action)


def test_reasoning_reaches_to_the_last_action() -> None:
    parsed = parse_response("Reasoning: one\nAction: Fly\ntwo\nAction: Do nothing", VALID)
    assert parsed.reasoning == "one\nAction: Fly\ntwo"
    assert parsed.action == "Fly"


def test_formatted_response_is_read_back() -> None:
    parsed = parse_response(format_response("patty1 is at table2.", MOVE), VALID)
    assert parsed == ParsedResponse(reasoning="patty1 is at table2.", action=MOVE, failure="")
    assert parsed.formatted


def test_feedback_has_the_benchmark_wording() -> None:
    assert feedback(parse_response("hm", VALID)) == (
        "The reasoning was malformed. Please provide a valid reasoning in the form 'Reasoning: <reasoning>'."
    )
    assert feedback(parse_response("Reasoning: a Action: b", VALID)) == (
        "The action was malformed. Please provide a valid action in the form 'Action: <action>'."
    )
    assert feedback(parse_response("Reasoning: a\nAction: Fly", VALID)) == (
        "The action 'Fly' is not valid. Please provide a valid action."
    )
    assert feedback(parse_response("Reasoning: a\nAction: Finish", VALID)) == ""
    assert feedback(parse_response("Reasoning: a\nAction: Do nothing", VALID)) == ""
