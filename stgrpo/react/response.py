"""Read a response the way the benchmark's agent reads it, and say why it failed.

The rules are those measured on the benchmark's ReAct agent, so that what counts as a success here counts there:
`Reasoning:` and `Action:` must each stand at the beginning of a line, the reasoning reaches to the last `Action:`, the
action is the rest of the first `Action:` line (or the next line, if nothing follows on it), stripped; it must equal
one of the valid actions to the letter. Text around the two is allowed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

REASONING = re.compile(r"^Reasoning:\s*(.+)Action:", re.MULTILINE | re.DOTALL)
ACTION = re.compile(r"^Action:\s*(.+)", re.MULTILINE)
FINISH = "Finish"

MALFORMED = "The {part} was malformed. Please provide a valid {part} in the form '{label}: <{part}>'."
NOT_VALID = "The action '{action}' is not valid. Please provide a valid action."


@dataclass(frozen=True)
class ParsedResponse:
    """What a response says: its reasoning and action (None where not found) and why it cannot be used, if so.

    `failure` is "" (usable), "reasoning" or "action" (not found), "invalid" (not a valid action now), or "finish" (the
    benchmark's word for giving up, which ends an episode as a failure).
    """

    reasoning: str | None
    action: str | None
    failure: str

    @property
    def formatted(self) -> bool:
        """Whether reasoning and action were both found, whatever the action is."""
        return self.failure not in ("reasoning", "action")


def parse_response(text: str, valid_actions: Sequence[str]) -> ParsedResponse:
    """Parse one response strictly.

    Args:
        text: the model's whole output, without special tokens.
        valid_actions: the actions of the state the model answered for.

    Returns:
        The parts, with the first failure in the order reasoning, action, finish, invalid.
    """
    reasoning_match, action_match = REASONING.search(text), ACTION.search(text)
    reasoning = reasoning_match.group(1).strip() if reasoning_match else None
    action = action_match.group(1).strip() if action_match else None
    if reasoning is None:
        failure = "reasoning"
    elif action is None:
        failure = "action"
    elif action == FINISH:
        failure = "finish"
    else:
        failure = "" if action in valid_actions else "invalid"
    return ParsedResponse(reasoning=reasoning, action=action, failure=failure)


def format_response(reasoning: str, action: str) -> str:
    """The response a model is taught to give; `parse_response` reads both parts back unchanged."""
    return f"Reasoning: {reasoning}\nAction: {action}"


def feedback(parsed: ParsedResponse) -> str:
    """What the benchmark tells the model before it tries again; empty where there is nothing to try again."""
    if parsed.failure in ("reasoning", "action"):
        return MALFORMED.format(part=parsed.failure, label=parsed.failure.capitalize())
    if parsed.failure == "invalid":
        return NOT_VALID.format(action=parsed.action)
    return ""
