"""A model behind an OpenAI-compatible server, as a policy: chat messages in, text out.

What a server might otherwise fill in from the model's own generation config (vLLM does: for Qwen2.5 top-k 20 and a
repetition penalty) is sent with every request, as far as the server is known to understand it. Such servers ignore
fields that they do not know, so nothing is taken for granted that a reply does not show.
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence

from stgrpo.data.chat_template import TEMPLATE_OPTIONS
from stgrpo.errors import RequestRefused, ServerError
from stgrpo.react.policy import Question, Response, SamplingParams
from stgrpo.react.prompt import Message
from stgrpo.react.response import parse_response
from stgrpo.serving.client import HttpClient, Json

PROBE = "constrained"


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
        client: of the servers; they must serve the same model.
        model: its name there.
        params: how to draw.
        constraint: for evaluations only, never for what is trained on: it changes what the model would have said.
    """

    def __init__(self, client: HttpClient, model: str, params: SamplingParams, constraint: Constraint | None = None):
        self.client, self.model, self._params, self._constraint = client, model, params, constraint
        self._extra: Json = {}

    def connect(self) -> None:
        """Finds out what the servers are, before anything else is asked.

        Raises:
            ServerError: one cannot be reached, or does not do what `constraint` needs.
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
        """See `Policy`. Never None: a server refuses a prompt that is too long, and its message is raised."""
        return [*self.client.map(self._ask, questions)] if len(questions) > 1 else [self._ask(q) for q in questions]

    def _ask(self, question: Question) -> Response:
        body = self._body(question.messages, question.seed, self._params.max_tokens)
        if self._constraint is not None:
            body["structured_outputs"] = {"regex": self._constraint.pattern(question.valid_actions)}
        response = _response(self.client.post("/v1/chat/completions", body), self._server)
        if self._constraint is not None and response.finish == "stop":
            parsed = parse_response(response.text, question.valid_actions)
            if parsed.failure:
                raise self._ignored(parsed.action or response.text)
        return response

    def _body(self, messages: Sequence[Message], seed: int, max_tokens: int) -> Json:
        sampling: Json = {"temperature": self._params.temperature, "top_p": self._params.top_p, "seed": seed}
        head: Json = {"model": self.model, "messages": list(messages), "max_tokens": max_tokens, "n": 1}
        return {**head, **sampling, **self._extra}

    def _is_vllm(self, address: str) -> bool:
        try:
            models = self.client.get("/v1/models", address=address, retry=False).get("data")
        except RequestRefused:  # a server that lists no models is no vLLM
            return False
        return isinstance(models, list) and any(isinstance(m, dict) and m.get("owned_by") == "vllm" for m in models)

    def _probe(self, address: str) -> None:
        """Asks for a word that nobody would say: a server that says another ignores the constraint."""
        body = self._body([{"role": "user", "content": "What is two and two?"}], 0, 2 * len(PROBE))
        body["structured_outputs"] = {"regex": PROBE}
        text = _response(self.client.post("/v1/chat/completions", body, address=address), address).text
        if text != PROBE:
            raise self._ignored(text)

    def _ignored(self, said: str) -> ServerError:
        said = said if len(said) <= 80 else said[:80] + " ..."
        return ServerError(
            f"{self._server} ignores structured_outputs (it was held to some answers and said {said!r}): "
            "serve the model with vLLM, or set evaluation.constrain_action=False"
        )

    @property
    def _server(self) -> str:
        return ", ".join(self.client.addresses)


def server_addresses(text: str) -> list[str]:
    """The addresses of a config field: separated by commas, each with or without the final /v1 of OpenAI's clients."""
    return [address.strip().rstrip("/").removesuffix("/v1") for address in text.split(",") if address.strip()]


def _response(reply: Json, server: str) -> Response:
    """Reads a chat completion strictly: what cannot be counted or read is an error, not a zero."""
    try:
        (choice,), usage = reply["choices"], reply["usage"]
        text, finish = choice["message"].get("content"), choice["finish_reason"]
        counts = usage["prompt_tokens"], usage["completion_tokens"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise ServerError(f"{server}: the reply is not a chat completion with usage ({what})") from error
    if not isinstance(finish, str) or not all(isinstance(n, int) for n in counts):
        raise ServerError(f"{server}: the reply has finish_reason {finish!r} and usage {usage!r}")
    if not isinstance(text, str | None):
        raise ServerError(f"{server}: the reply's content is {type(text).__name__}, not text")
    return Response(text or "", finish, *counts)


def _literal(text: str) -> str:
    """Escapes what has a meaning in every dialect of regular expressions, and nothing else: grammars are picky."""
    return re.sub(r"([\\.^$*+?{}\[\]|()])", r"\\\1", text)
