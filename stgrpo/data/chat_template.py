"""The chat template of a tokenizer, held to what training needs of it before anything is computed.

A template is a program from elsewhere. What is asked of it: that it comes to an end, gives the same text every day,
shows all of every message, and continues a prompt by the answer and a special token that ends it, nothing between. Then
the ids of a prompt, those of an answer and the end are the ids of the conversation, which is what is learned and drawn.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import FrameType
from typing import TYPE_CHECKING, Any

from stgrpo.errors import UserError
from stgrpo.files import to_json
from stgrpo.react.prompt import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What some templates would otherwise take from the clock (Llama 3.2) or add a thinking section for (Qwen3).
TEMPLATE_OPTIONS = {"date_string": "26 Jul 2024", "enable_thinking": False}
_DAY = {"%d": "26", "%-d": "26", "%b": "Jul", "%B": "July", "%m": "07", "%Y": "2024", "%y": "24", "%F": "2024-07-26"}
_DAY |= {"%a": "Fri", "%A": "Friday", "%H": "00", "%I": "12", "%M": "00", "%S": "00", "%p": "AM", "%T": "00:00:00"}
# Takes the place of the function that a template reads the clock with.
_CLOCK = "".join(
    (
        "{% macro strftime_now(format) %}{{ format",
        *(f" | replace('{code}', '{value}')" for code, value in _DAY.items()),
        " }}{% endmacro %}",
    )
)
_MOST_LINES = 1_000_000  # of a template, run for one conversation; real ones take hundreds
_ANOTHER = "use the template of an instruction-tuned model"
_PLAIN = "use one that opens an answer alike in a prompt and in a conversation, and adds no thought"
_FIXES = {
    "system": "set --config.prompt.instructions=none, or use a template that has a system role",
    "assistant": "set --config.prompt.history=none, or use a template that shows what was said before",
    "user": _ANOTHER,
}


def default_template(template: object, source: str) -> str:
    """The template that counts, of one or of several by name: the one called "default", as transformers has it.

    Raises:
        UserError: there is none.
    """
    if isinstance(template, Mapping):
        for name in template:
            if not isinstance(name, str) or os.path.basename(name) != name or name in ("", ".", ".."):  # noqa: PTH119
                raise UserError(f"{source} has a chat template called {name!r}, which no file can be: rename it")
        if "default" not in template:
            names = ", ".join(sorted(template)) or "none"
            raise UserError(f"{source} has no chat template called default (it has: {names}): name one of them so")
        texts, template = template.values(), template["default"]
        if not all(isinstance(text, str) for text in texts):
            raise UserError(f"{source} has a chat template that is no text: {_ANOTHER}")
    if not template:
        raise UserError(f"{source} has no chat template: use that of an instruction-tuned model")
    if not isinstance(template, str):
        raise UserError(f"{source} has a chat template that is no text ({type(template).__name__}): {_ANOTHER}")
    return template


def as_used_here(template: str) -> str:
    """The same template, whose prompts by default are those of a run, every day and wherever it is rendered.

    What a run says of thinking and of the day holds where nobody says otherwise, and the clock stands still.
    """
    options = {name: value for name, value in TEMPLATE_OPTIONS.items() if name in template}
    before = [
        f"{{% if {name} is not defined %}}{{% set {name} = {to_json(value)} %}}{{% endif %}}"
        for name, value in options.items()
    ]
    before += [_CLOCK] if "strftime_now" in template else []
    first = "".join(before) + "\n"  # the line break after a block is not part of the text
    return first + template if before and not template.startswith(first) else template


@dataclass(frozen=True)
class ChatTemplate:
    """The default chat template of a tokenizer.

    Attributes:
        base: the tokenizer.
        source: what an error begins with.
    """

    base: "PreTrainedTokenizerBase"
    source: str

    @cached_property
    def text(self) -> str:
        """The template itself."""
        return as_used_here(default_template(self.base.chat_template, self.source))

    def render(self, messages: Sequence[Message], *, prompt: bool) -> str:
        """The text of a conversation.

        Args:
            messages: of it.
            prompt: whether the assistant is to speak next.

        Raises:
            UserError: the template refuses or fails.
        """
        return self._render(messages, prompt=prompt, parts=self._takes_parts)

    def end_of_turn(self) -> str:
        """What the template writes after an assistant's text.

        Raises:
            UserError: it cannot be used at all: it fails, or comes to no end, or leaves out what is said.
        """
        said = "stgrpo"
        conversation = [{"role": "user", "content": "?"}, {"role": "assistant", "content": said}]
        _, found, rest = _bounded(lambda: self.render(conversation, prompt=False), self.source).rpartition(said)
        if not found:
            raise UserError(f"the chat template of {self.source} leaves out what the assistant says: {_ANOTHER}")
        return rest

    def check(self, messages: Sequence[Message], answer: str) -> tuple[str, str]:
        """Holds the template to one conversation.

        Args:
            messages: those of a prompt.
            answer: of the assistant.

        Returns:
            The text of the prompt, and of the conversation up to the end of the answer and beyond.

        Raises:
            UserError: the template fails, changes or leaves out a message, or does not go on with the answer.
        """
        prompt = _bounded(lambda: self.render(messages, prompt=True), self.source)
        if prompt != self.render(messages, prompt=True):
            raise UserError(f"the chat template of {self.source} gives another text each time: {_ANOTHER}")
        for role in _left_out(prompt, messages):
            raise UserError(f"the chat template of {self.source} changes or leaves out {role} messages: {_FIXES[role]}")
        whole = self.render([*messages, {"role": "assistant", "content": answer}], prompt=False)
        if not whole.startswith(prompt):
            kept = next(i for i, c in enumerate(prompt) if whole[i : i + 1] != c)
            what = f"opens an answer with {prompt[kept:][:60]!r}, which is gone once the answer is given"
            raise UserError(f"the chat template of {self.source} {what}: {_PLAIN}")
        before, found, _ = whole[len(prompt) :].partition(answer)
        if before or not found:
            what = f"puts {before[:60]!r} before" if found else "changes"
            raise UserError(f"the chat template of {self.source} {what} what the assistant says: {_PLAIN}")
        return prompt, whole

    @cached_property
    def _takes_parts(self) -> bool:
        """Whether a message's content must be a list of parts, since a plain text does not come out again."""
        said = "stgrpo"
        conversation = [{"role": "user", "content": said}]

        def shows(parts: bool) -> bool:
            try:
                return said in _bounded(lambda: self._render(conversation, prompt=True, parts=parts), self.source)
            except UserError:
                return False

        return not shows(parts=False) and shows(parts=True)

    def _render(self, messages: Sequence[Message], *, prompt: bool, parts: bool) -> str:
        given: list[Any] = list(messages)  # transformers' own annotation has no parts
        if parts:
            given = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]
        options = {**TEMPLATE_OPTIONS, "tokenize": False, "add_generation_prompt": prompt}
        try:
            text = self.base.apply_chat_template(given, chat_template=self.text, **options)
            assert isinstance(text, str)  # ids only where it is to tokenize
            return text
        except UserError:
            raise
        except Exception as error:  # whatever a program from elsewhere may raise
            roles = " and ".join(dict.fromkeys(m["role"] for m in messages))
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            fix = _FIXES["system"] if "system" in roles else _ANOTHER
            raise UserError(f"the chat template of {self.source} fails for {roles} ({reason}): {fix}") from error


def _left_out(prompt: str, messages: Sequence[Message]) -> Iterator[str]:
    """The roles of messages whose text does not follow that of the one before; blanks around it may go."""
    at = 0
    for message in messages:
        text = message["content"].strip()
        found = prompt.find(text, at)
        if found < 0:
            yield message["role"]
        else:
            at = found + len(text)


def _bounded(render: Callable[[], str], source: str) -> str:
    """What `render` gives, unless its template runs on and on.

    Lines of the template are counted, not seconds: a loaded machine refuses nothing that an idle one does.
    """
    lines, before = 0, sys.gettrace()

    def count(frame: FrameType, event: str, _: object) -> Callable | None:
        nonlocal lines
        if frame.f_code.co_filename != "<template>":
            return None
        lines += 1
        if lines > _MOST_LINES:
            raise UserError(f"the chat template of {source} comes to no end (over {_MOST_LINES:,} lines): {_ANOTHER}")
        return count

    sys.settrace(count)
    try:
        return render()
    finally:
        sys.settrace(before)
