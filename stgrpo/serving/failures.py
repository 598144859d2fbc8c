"""What a failure of a server means: whether it may pass, whose it is, and what the server says about it."""

import datetime
import email.utils
import math
from collections.abc import Mapping

from stgrpo.errors import RequestRefused, ServerError
from stgrpo.files import from_json, to_json

# Time, conflict, limits of rates; failures of the server and of what stands before it: 502 and 504 are what a gateway
# says whose server restarts, 52x are those of content networks.
PASSING = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529))
_STATUS = {
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "overloaded_error": 529,
}
"""Statuses of the names that errors have where they are not numbers."""
_DECLINED = ("content_filter", "content_policy_violation", "moderation_blocked", "responsibleaipolicyviolation")


_WORDS = ("message", "detail", "error_msg", "error_message", "errorMessage", "msg", "errors", "base_resp", "status_msg")
"""What different providers call the words of an error."""


class Passing(Exception):
    """A failure that may pass.

    Attributes:
        error: to raise if it does not.
        seconds: that the server wants to be left alone.
    """

    def __init__(self, error: ServerError, seconds: float = 0.0):
        super().__init__(str(error))
        self.error, self.seconds = error, seconds

    def final(self, remark: str) -> ServerError:
        """The error, when it has not passed."""
        return type(self.error)(f"{self.error} ({remark})" if remark else str(self.error))


def failure(status: int, message: str, seconds: float = 0.0, *, kind: type[ServerError] = ServerError) -> Exception:
    """What a status means, of an answer or within one: something that may pass, the user's mistake, or the server's.

    Args:
        status: as of HTTP.
        message: of the error.
        seconds: that the server wants to be left alone.
        kind: of the error where it is the server's.
    """
    if status in PASSING:
        return Passing(kind(message), seconds)
    return (RequestRefused if 400 <= status < 500 else kind)(message)


def error_status(error: object) -> int:
    """The status of an error within an answer; 500 where it has none."""
    if not isinstance(error, dict):
        return 500
    for name in ("code", "status", "type"):
        value = error.get(name)
        if isinstance(value, str):
            value = int(value) if value.isascii() and value.isdigit() and len(value) == 3 else _STATUS.get(value)
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value < 600:
            return value
    return 500


def is_declined(content: object) -> bool:
    """Whether an error says that this one prompt, or what was said to it, was filtered."""
    try:
        value = from_json(content) if isinstance(content, str) else content
    except ValueError:
        return False
    error = value.get("error", value) if isinstance(value, dict) else None
    if not isinstance(error, dict):
        return False
    inner = error.get("innererror")
    codes = [error.get("code"), error.get("type"), inner.get("code") if isinstance(inner, dict) else None]
    metadata = error.get("metadata")
    is_flagged = isinstance(metadata, dict) and ("flagged_input" in metadata or "reasons" in metadata)
    return is_flagged or any(isinstance(code, str) and code.lower() in _DECLINED for code in codes)


def is_bare_error(value: Mapping[str, object]) -> bool:
    """Whether an object says of itself what went wrong, as some providers do with status 200, and has no answer."""
    if value.keys() & {"choices", "content", "finish_reason"}:
        return False
    kinds = {"base_resp": dict}
    return any(isinstance(value.get(name), kinds.get(name, str | list)) and value[name] for name in _WORDS)


def error_text(content: object) -> str:
    """What a server says about an error: {"error": {"message": ...}}, the same without "error", "detail", or text."""
    try:
        value = from_json(content) if isinstance(content, str) else content
    except ValueError:
        return str(content)
    whole = value
    while isinstance(value, dict):
        inner = next((value[name] for name in ("error", *_WORDS) if value.get(name)), None)
        if inner is None:
            return content if isinstance(content, str) else _plain(whole)
        value = inner
    return value if isinstance(value, str) else _plain(value)


def _plain(value: object) -> str:
    try:
        return to_json(value)
    except RecursionError:
        return "an error that is nested too deeply"


def retry_after(headers: Mapping[str, str], now: datetime.datetime | None = None) -> float:
    """Seconds that a server asks to be left alone: of Retry-After, seconds or a date, or retry-after-ms; 0 of none."""
    for name, unit in (("retry-after-ms", 1000.0), ("Retry-After", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    try:
        until = email.utils.parsedate_to_datetime(headers.get("Retry-After", ""))
        now = now or datetime.datetime.now(until.tzinfo or datetime.UTC)
        return max(0.0, (until.replace(tzinfo=until.tzinfo or now.tzinfo) - now).total_seconds())
    except (ValueError, TypeError, OverflowError, IndexError):
        return 0.0
