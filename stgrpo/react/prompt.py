"""Turn a state's observation into chat messages: instructions, what was done last, and what is seen now.

The observation is passed through untouched, valid actions and goal included. History and error feedback keep the
benchmark's wording, so that a model trained here meets the same text there; the instructions are our own words, those
of the environment between what is the same for all: what a turn brings, and how to answer.
"""

from dataclasses import dataclass

from stgrpo.protocol import GENERAL, Instructions

INSTRUCTION_STYLES = ("full", "none")
HISTORY_POLICIES = ("none", "last_action", "last_reasoning_action")

Message = dict[str, str]

_INPUT = """\
Input:
Each turn you get an observation, the list of valid actions, and the goal.{observation} If your last answer could not \
be used, an "Error Feedback:" line comes first and says why."""
_ANSWER = """\
Answer with exactly these two parts, each beginning on its own line:
Reasoning: what is missing, what comes next, and why
Action: one of the valid actions, copied to the letter"""


@dataclass(frozen=True)
class PromptStyle:
    """How much a prompt tells beside the observation.

    Attributes:
        instructions: "full" explains the task in a system message; "none" shows the observation alone, for models that
            are trained from scratch and have no use for prose.
        history: what is repeated of the turn before: nothing, its action, or its reasoning and action.
        about: what the environment says of itself, for "full".
    """

    instructions: str = "full"
    history: str = "none"
    about: Instructions = GENERAL

    def __post_init__(self) -> None:
        if self.instructions not in INSTRUCTION_STYLES:
            raise ValueError(f"instructions {self.instructions!r} is not one of {', '.join(INSTRUCTION_STYLES)}")
        if self.history not in HISTORY_POLICIES:
            raise ValueError(f"history {self.history!r} is not one of {', '.join(HISTORY_POLICIES)}")


@dataclass(frozen=True)
class Turn:
    """What the model said in one turn."""

    reasoning: str
    action: str


def render_messages(
    observation: str, *, style: PromptStyle, last: Turn | None = None, feedback: str = ""
) -> list[Message]:
    """The chat messages for one state.

    Args:
        observation: the state's text, valid actions and goal included.
        style: instructions and history policy.
        last: the turn before this one, if any; ignored where the policy is "none".
        feedback: why the last answer was refused; empty on a first try.

    Returns:
        Messages with "role" and "content" that alternate between user and assistant after an optional system message.
    """
    messages = [_message("system", _system(style.about))] if style.instructions == "full" else []
    if last is not None and style.history != "none":
        reasoning = f"Previous Reasoning: {last.reasoning}\n\n" if style.history == "last_reasoning_action" else ""
        messages.append(_message("user", "Previous Observation: Omitted"))
        messages.append(_message("assistant", f"{reasoning}Previous Action: {last.action}"))
    error = f"Error Feedback: {feedback}\n" if feedback else ""
    messages.append(_message("user", error + observation))
    return messages


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _system(about: Instructions) -> str:
    seen = _INPUT.format(observation=f" {about.observation}" if about.observation else "")
    return "\n\n".join(part for part in (about.task, seen, about.rules, _ANSWER) if part)
