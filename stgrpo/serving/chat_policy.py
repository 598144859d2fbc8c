"""A model behind an OpenAI-compatible server, as a policy: chat messages in, text out.

What a server might otherwise fill in from the model's own generation config (vLLM does: for Qwen2.5 top-k 20 and a
repetition penalty) is sent with every request, as far as the server is known to understand it. Such servers ignore
fields that they do not know, so nothing is taken for granted that a reply does not show.
"""

import dataclasses
import logging
import re
from collections.abc import Iterable, Sequence

from stgrpo.data.chat_template import TEMPLATE_OPTIONS
from stgrpo.errors import NoAnswer, RequestRefused, ServerError, Unreachable
from stgrpo.react.policy import SERVER, THINKING, Question, Response, SamplingParams
from stgrpo.react.prompt import Message
from stgrpo.react.response import parse_response
from stgrpo.serving import finish_reasons
from stgrpo.serving.client import HttpClient, Json
from stgrpo.serving.failures import Passing, error_status, error_text, failure, is_bare_error, is_declined

PROBE = "constrained"
_MOST_TOKENS = 2**53  # that a server may count; more is no count
_THOUGHTS = ("reasoning_content", "reasoning", "reasoning_details")  # what servers call them

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Constraint:
    """Holds the answers of an evaluation to the ReAct form and the valid actions.

    Attributes:
        reasoning_chars: of the reasoning at most, a line break with what follows counted as one; without a limit, a
            model that comes to no end would never act.
    """

    reasoning_chars: int

    def pattern(self, valid_actions: Iterable[str]) -> str:
        """A regular expression for the whole answer: free reasoning, then one of the actions.

        The reasoning may have several lines; only "A" begins none, so that "Action:" is said once.
        """
        actions = "|".join(_literal(action) for action in valid_actions)
        return rf"Reasoning: [^\n]([^\n]|\n[^A\n]){{0,{self.reasoning_chars - 1}}}\nAction: ({actions})"


class ChatPolicy:
    """A served model; many threads may ask it. Every question is one request.

    Args:
        client: of the servers, at the addresses below which their chat completions are; all have the same model.
        model: its name there.
        params: how to draw.
        constraint: for evaluations only, never for what is trained on: it changes what the model would have said.
    """

    def __init__(self, client: HttpClient, model: str, params: SamplingParams, constraint: Constraint | None = None):
        self.client, self.model, self._params, self._constraint = client, model, params, constraint
        self._extra: Json = {}
        self._strange: set[str] = set()

    def connect(self) -> None:
        """Finds out what the servers are, before anything else is asked.

        Raises:
            Unreachable: there is nobody at an address.
            RequestRefused: one does not do what `constraint` needs.
            ServerError: one fails when it is asked whether it does.
        """
        if all(self._is_vllm(address) for address in self.client.addresses):
            self._extra = {
                "top_k": self._params.top_k or -1,
                "min_p": 0.0,
                "repetition_penalty": 1.0,
                "chat_template_kwargs": TEMPLATE_OPTIONS,
            }
        elif self._params.top_k:
            self._extra = {"top_k": self._params.top_k}
        if self._constraint is not None:
            for address in self.client.addresses:
                self._probe(address)

    def answer(self, questions: Sequence[Question]) -> list[Response | None]:
        """See `Policy`. Never None: a server refuses a prompt that is too long, and its message is raised.

        A server that has no answer to a question gives a response that says so; any other failure is raised.
        """
        return [*self.client.map(self._ask, questions)] if len(questions) > 1 else [self._ask(q) for q in questions]

    def _ask(self, question: Question) -> Response:
        body = self._body(question.messages, question.seed, self._params.max_tokens)
        if self._constraint is not None:
            body["structured_outputs"] = {"regex": self._constraint.pattern(question.valid_actions)}
        try:
            response = self._complete(body)
        except NoAnswer as error:
            return Response(str(error), "error", 0, 0, SERVER)
        if self._constraint is not None and response.finish == "stop":
            parsed = parse_response(response.text, question.valid_actions)
            if parsed.failure:
                raise ServerError(self._ignored(parsed.action or response.text))
        return response

    def _body(self, messages: Sequence[Message], seed: int, max_tokens: int) -> Json:
        sampling: Json = {"temperature": self._params.temperature, "top_p": self._params.top_p, "seed": seed}
        head: Json = {"model": self.model, "messages": list(messages), "max_tokens": max_tokens, "n": 1}
        return {**head, **sampling, **self._extra}

    def _complete(self, body: Json, address: str = "") -> Response:
        return self.client.ask("/chat/completions", body, self._read, address=address)

    def _is_vllm(self, address: str) -> bool:
        """Whether a server says so in its list of models; one without such a list may be asked all the same."""
        try:
            models = self.client.get("/models", address=address).get("data")
        except Unreachable:
            raise
        except ServerError as error:
            log.warning("%s; so it is asked as a server that is no vLLM, with the standard fields alone", error)
            return False
        return isinstance(models, list) and any(isinstance(m, dict) and m.get("owned_by") == "vllm" for m in models)

    def _probe(self, address: str) -> None:
        """Asks for a word that nobody would say: a server that says another ignores the constraint."""
        body = self._body([{"role": "user", "content": "What is two and two?"}], 0, 2 * len(PROBE))
        body["structured_outputs"] = {"regex": PROBE}
        text = self._complete(body, address).text
        if text != PROBE:
            raise RequestRefused(self._ignored(text))

    def _ignored(self, said: str) -> str:
        said = said if len(said) <= 80 else said[:80] + " ..."
        return (
            f"{', '.join(self.client.addresses)} ignores structured_outputs (it was held to some answers and said "
            f"{self.client.said(repr(said))}): serve the model with vLLM, or set evaluation.constrain_action=False"
        )

    def _read(self, reply: Json, where: str) -> Response:
        """Reads a chat completion strictly: what cannot be counted or read is an error, not a zero.

        Raises:
            Passing: the server has no answer, which may pass.
            NoAnswer: it has none.
            RequestRefused: it says so of a mistake in what it was asked.
            ServerError: this is no chat completion.
        """
        self._refuse_error(reply, where)
        try:
            choice = _only_choice(reply)
            self._refuse_error(choice, where)
            response = _response(choice, reply)
        except _Unanswered as error:
            raise NoAnswer(f"{where}: {self.client.said(str(error))}") from error
        except _Empty as error:
            raise Passing(NoAnswer(f"{where}: the reply is not a chat completion: {error}")) from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = self.client.said(f"{type(error).__name__}: {error}")
            raise ServerError(f"{where}: the reply is not a chat completion with usage ({what})") from error
        self._warn_of(response.finish, where)
        return response

    def _warn_of(self, finish: str, where: str) -> None:
        """Says once that answers end for a reason that nothing is known of."""
        if not finish_reasons.is_known(finish) and finish not in self._strange:
            self._strange.add(finish)
            log.warning("%s: finish_reason %s is unknown; such answers count as whole", where, self.client.said(finish))

    def _refuse_error(self, part: Json, where: str) -> None:
        """Raises what an error in a reply, or in a choice of one, says."""
        error = part.get("error") or (part if part.get("object") == "error" or is_bare_error(part) else None)
        finish = part.get("finish_reason")
        if not error and not (isinstance(finish, str) and finish.lower() in finish_reasons.BROKEN):
            return
        said = self.client.said(error_text({"error": error}) if error else f"finish_reason {finish}")
        message = f"{where}: the server answers with an error: {said}"
        raise NoAnswer(message) if is_declined(error) else failure(error_status(error), message, kind=NoAnswer)


class _Unanswered(ValueError):
    """Somebody before the model, or the model itself, declines to answer; asking again would not help."""


class _Empty(ValueError):
    """There is nothing where an answer should be."""


def _only_choice(reply: Json) -> Json:
    choices = reply["choices"]
    if choices is None or choices == []:
        raise _Empty("it has no choices")
    (choice,) = choices
    return choice


def _response(choice: Json, reply: Json) -> Response:
    message, finish = choice["message"], choice["finish_reason"]
    text, refusal = message.get("content"), message.get("refusal")
    if not isinstance(finish, str):
        raise ValueError(f"finish_reason is {_shown(finish)}")
    if isinstance(refusal, str) and refusal.strip() and not text:
        raise _Unanswered(f"the answer was refused: {refusal}")
    if finish.lower() in finish_reasons.FILTERED:
        raise _Unanswered(f"the answer was filtered (finish_reason {finish})")
    if not isinstance(text, str | None):
        raise ValueError(f"content is {type(text).__name__}, not text")
    finish = finish_reasons.canonical(finish)
    if text is None and finish != "length":
        raise _Empty(f"its content is null, with finish_reason {finish[:40]}")
    usage = reply["usage"]
    asked, said = usage["prompt_tokens"], usage["completion_tokens"]
    if not all(type(n) is int and 0 <= n < _MOST_TOKENS for n in (asked, said)):
        raise ValueError(f"usage is {_shown(usage)}")
    thinks = finish == "length" and _is_thought(text, message, usage)
    return Response(text or "", finish, asked, said, THINKING if thinks else "")


def _is_thought(text: str | None, message: Json, usage: Json) -> bool:
    """Whether an answer that was cut is nothing but thoughts, which a server keeps apart or leaves in the text."""
    if text is None or (text.lstrip().startswith("<think>") and "</think>" not in text):
        return True
    details = usage.get("completion_tokens_details")
    counted = details.get("reasoning_tokens") if isinstance(details, dict) else 0
    return not text.strip() and (bool(counted) or any(message.get(name) for name in _THOUGHTS))


def _shown(value: object) -> str:
    try:
        return repr(value)[:80]
    except (ValueError, RecursionError):  # an integer of too many digits, what is nested too deeply
        return type(value).__name__


def _literal(text: str) -> str:
    """Escapes what has a meaning in every dialect of regular expressions, and nothing else: grammars are picky."""
    return re.sub(r"([\\.^$*+?{}\[\]|()])", r"\\\1", text)
