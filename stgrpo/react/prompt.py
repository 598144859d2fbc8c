"""Turn a state's observation into chat messages: instructions, what was done last, and what is seen now.

The observation is passed through untouched, valid actions and goal included. History and error feedback keep the
benchmark's wording, so that a model trained here meets the same text there; the instructions are our own words.
"""

from dataclasses import dataclass

INSTRUCTION_STYLES = ("full", "none")
HISTORY_POLICIES = ("none", "last_action", "last_reasoning_action")

Message = dict[str, str]

INSTRUCTIONS = """\
You control a robot in a kitchen and prepare the meal that the goal asks for, one action at a time, in as few actions \
as possible.

Input:
Each turn you get an observation, the list of valid actions, and the goal. The observation describes every object: \
stations (tables, stoves, cutting boards, fryers, sinks), items, containers, meals and the robot, one fact a line. If \
your last answer could not be used, an "Error Feedback:" line comes first and says why.

Rules:
1. The robot holds one thing at a time. To pick something up it must hold nothing.
2. The robot only reaches things at the station it is at. Move it first; every other station is one move away.
3. Only the uppermost item of a stack can be taken: "Unstack" takes it off another item, "Pick up" takes it off a \
station.
4. "Place" needs an empty station. "Stack" puts the held item on top of an item that has nothing above it.
5. An item that blocks what you need must be set aside somewhere else first.
6. Cutting takes three cut actions on a cutting board. Cooking on a stove, frying in a fryer, filling a pot at a sink \
and boiling it take several turns by themselves, and the thing must stay where it is.

Recipes, from the bottom to the top:
- Sandwich: a bread slice directly on the station, the filling, another bread slice.
- Hamburger: a bottom bun directly on the station, a cooked patty, a top bun. A cheeseburger has a cheese slice too; a \
double cheeseburger has patty, cheese, patty, cheese.
- Soup: fill a pot with water, boil it, add the ingredients, and serve it in a bowl.
The goal may leave open which of several like objects or stations you use.

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
    """

    instructions: str = "full"
    history: str = "none"

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
    messages = [_message("system", INSTRUCTIONS)] if style.instructions == "full" else []
    if last is not None and style.history != "none":
        reasoning = f"Previous Reasoning: {last.reasoning}\n\n" if style.history == "last_reasoning_action" else ""
        messages.append(_message("user", "Previous Observation: Omitted"))
        messages.append(_message("assistant", f"{reasoning}Previous Action: {last.action}"))
    error = f"Error Feedback: {feedback}\n" if feedback else ""
    messages.append(_message("user", error + observation))
    return messages


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}
