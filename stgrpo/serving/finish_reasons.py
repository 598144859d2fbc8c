"""Why an answer of a served model ended, in the words of different providers.

OpenAI's interface knows "stop" and "length"; servers that translate to it often hand their own words through.
"""

STOPPED = frozenset({"stop", "eos", "eos_token", "end_turn", "stop_sequence", "tool_calls", "function_call"})
CUT = frozenset({"length", "max_tokens", "max_output_tokens", "model_length"})
BROKEN = frozenset({
    "error", "abort", "cancelled", "canceled", "failed", "timeout", "network_error", "insufficient_system_resource",
    "other", "unknown", "finish_reason_unspecified", "malformed_response",
})  # fmt: skip
"""The server's failure, which may pass."""
FILTERED = frozenset({
    "content_filter", "content_filtered", "sensitive", "refusal", "safety", "recitation", "blocklist",
    "prohibited_content", "spii", "language", "guardrail_intervened",
})  # fmt: skip
"""Somebody declined to answer; asking again would not help."""


def canonical(reason: str) -> str:
    """The one of "stop" and "length" that a reason means; any other as it is."""
    word = reason.lower()
    return "stop" if word in STOPPED else "length" if word in CUT else reason


def is_known(reason: str) -> bool:
    """Whether an answer that ended so is the model's own, said to its end or cut by the limit."""
    return reason.lower() in STOPPED | CUT
