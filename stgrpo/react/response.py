"""Say what a model is taught to answer, and what it is told where it answered otherwise.

How a response is read stands in `stgrpo.react.reward`, which goes to other trainers as one file.
"""

from stgrpo.react.reward import ParsedResponse, parse_response

__all__ = ["ParsedResponse", "feedback", "format_response", "parse_response"]

MALFORMED = "The {part} was malformed. Please provide a valid {part} in the form '{label}: <{part}>'."
NOT_VALID = "The action '{action}' is not valid. Please provide a valid action."


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
