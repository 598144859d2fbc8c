"""Responses from vLLM servers: exact ids and log-probabilities, seeds, and the version of the weights behind them.

Everything that a server could decide by itself is set in each request, and what can be read from the reply is checked:
the model, the prompt's ids, the number of responses, ids against their own echo, lengths, finish reasons.

A response depends on its prompt, its seed, its number in the group and the weights, up to rounding: which other
requests a server computes together with it changes its logits in the last bits.
"""

import contextlib
import dataclasses
import math
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

from stgrpo.console import one_line
from stgrpo.errors import RequestRefused, ServerError
from stgrpo.models.random import checked_seed
from stgrpo.models.shapes import ModelShape
from stgrpo.models.transformer import Transformer
from stgrpo.react.policy import SamplingParams
from stgrpo.sampling.base import Samples
from stgrpo.sampling.vllm.server import SERVED_NAME, VllmServer
from stgrpo.sampling.vllm.weight_sync import Published, WeightFolder, WeightSync
from stgrpo.serving.client import ClientSettings, HttpClient, Json

Row = tuple[list[list[int]], list[list[float]], list[str]]


@dataclasses.dataclass(frozen=True)
class VllmSettings:
    """How to use servers.

    Attributes:
        addresses: such as "http://127.0.0.1:8000".
        run: a name that no other run has; servers are held under it.
        shape: of the model.
        dtype: in which it is served.
        length: tokens of the longest prompt with the longest response.
        batch: the most responses that one server is asked for at one time.
        folder: where new weights are put; None for shared memory.
        timeout: seconds that a request may take.
    """

    addresses: tuple[str, ...]
    run: str
    shape: ModelShape
    dtype: str
    length: int
    batch: int = 256
    folder: Path | None = None
    timeout: float = 600.0


class VllmSampler:
    """Draws from vLLM servers that hold the policy's weights; see `Sampler`.

    With top-p or top-k, log-probabilities are those of the truncated distribution, unlike the embedded sampler's.
    """

    def __init__(self, settings: VllmSettings, stop_ids: Sequence[int], *, own: VllmServer | None = None):
        """Takes the servers; they must be up.

        Args:
            settings: servers and model.
            stop_ids: tokens that end a response.
            own: the server, where it is this run's and may be started again; somebody else looks after all others.

        Raises:
            UserError: a server is not usable by this run.
            ServerError: one cannot be reached.
        """
        self._settings, self._stop_ids, self._own = settings, tuple(stop_ids), own
        places = len(settings.addresses) * settings.batch
        self._client = HttpClient(settings.addresses, ClientSettings(timeout=settings.timeout, concurrency=places))
        self._sync = WeightSync(self._client, settings.run, timeout=settings.timeout)
        self._folder = WeightFolder(settings.folder, settings.run, settings.dtype)
        self._published: Published | None = None
        self._version: int | None = None
        try:
            self._connect()
        except Exception:
            self._client.close()
            raise

    @property
    def version(self) -> int | None:
        """Of the weights that every server holds; None where that is not certain."""
        return self._version

    def _connect(self) -> None:
        s = self._settings
        self._sync.connect(s.shape, s.dtype, s.length)
        self._version = None  # whatever they hold was not compared yet

    def generate(
        self, prompts: Sequence[Sequence[int]], group_size: int, params: SamplingParams, seeds: Sequence[int]
    ) -> Samples:
        """See `Sampler.generate`.

        Raises:
            ServerError: a server fails, hangs, answers what cannot be right, or holds other weights than it was given.
        """
        if self._version is None:
            raise ServerError("no version of the weights was loaded yet")
        bodies = [self._body(p, group_size, params, s) for p, s in zip(prompts, seeds, strict=True)]
        places = len(self._settings.addresses) * max(1, self._settings.batch // group_size)
        with self._explained():
            rows = self._client.map(self._draw, bodies, most=places)
            self._sync.confirm(self._version)
        copies = 1 if params.temperature else group_size  # greedy samples are all the same, and vLLM draws one
        return Samples(
            [tokens * copies for tokens, _, _ in rows],
            [logprobs * copies for _, logprobs, _ in rows],
            [finish * copies for _, _, finish in rows],
            self._version,
        )

    def update_weights(self, params: Transformer, version: int) -> None:
        """Writes the parameters and loads them into every server, unless this version is there already."""
        if self._version != version:
            self.load(self.publish(params, version))

    def publish(self, params: Transformer, version: int) -> Published:
        """Writes the parameters where servers see them; they do not have to be kept after that."""
        return self._folder.publish(params, version)

    def load(self, published: Published) -> None:
        """Makes the next `generate` draw from published parameters, and removes those before.

        Raises:
            ServerError: a server did not take them; it stays paused.
        """
        self._published, self._version = published, None
        with self._explained():
            self._sync.load(published)
        self._version = published.version
        self._folder.remove_before(published)

    def recover(self) -> None:
        """Takes the servers again after an error, and gives them the weights that they had.

        Raises:
            UserError, ServerError: see `__init__` and `load`.
        """
        if self._own:
            self._own.start()
        self._connect()
        if self._published:
            self.load(self._published)

    def close(self) -> None:
        """Lets the servers go and removes the weights."""
        try:
            self._sync.release()
        except ServerError:
            pass  # a server that is gone holds nothing
        self._folder.clear()
        self._client.close()

    @contextlib.contextmanager
    def _explained(self) -> Generator[None]:
        """Adds to an error what the server itself has printed, since its answers hide the reason."""
        try:
            yield
        except RequestRefused:
            raise
        except ServerError as error:
            raise (ServerError(f"{error}: {self._own.last_words()}") if self._own else error) from error

    def _body(self, prompt: Sequence[int], group_size: int, params: SamplingParams, seed: int) -> Json:
        return {
            "model": SERVED_NAME,
            "prompt": list(prompt),
            "n": group_size if params.temperature else 1,
            "seed": checked_seed(seed) * group_size,  # sample k is drawn with seed + k
            "max_tokens": params.max_tokens,
            "min_tokens": 0,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "top_k": params.top_k or -1,
            "min_p": 0.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "repetition_penalty": 1.0,
            "stop_token_ids": list(self._stop_ids),
            "ignore_eos": True,  # the stop tokens are those above and no others
            "skip_special_tokens": False,
            "add_special_tokens": False,
            **only_tokens(self._settings.shape),
            "logprobs": 0,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            "cache_salt": f"v{self._version}",
            "stream": False,
        }

    def _draw(self, body: Json) -> Row:
        return read_reply(self._client.post("/v1/completions", body), body, self._settings.shape.real_vocab)


def only_tokens(shape: ModelShape) -> Json:
    """What a request says so that rows of the vocabulary without a token are not drawn; nothing where all have one.

    The shorter of two lists: of what is taken out, by the lowest bias there is (a probability of 10^-44), or of what is
    left. Qwen2.5's has 271 entries.
    """
    if not shape.tokens:
        return {}
    beyond = range(shape.tokens, shape.vocab_size)
    if len(beyond) <= shape.tokens:
        return {"logit_bias": dict.fromkeys(beyond, -100.0)}
    return {"allowed_token_ids": list(range(shape.tokens))}


def read_reply(reply: Mapping, body: Json, vocab: int | None = None) -> Row:
    """Ids, log-probabilities and finish reasons of a group, by number.

    Args:
        reply: of /v1/completions.
        body: what was asked.
        vocab: ids that have a token are below it; None for any.

    Raises:
        ServerError: the reply is not one to this request; the reason is named.
    """
    try:
        choices = sorted(reply["choices"], key=lambda choice: choice["index"])
        if reply["model"] != body["model"] or [c["index"] for c in choices] != list(range(body["n"])):
            raise ServerError(f"vLLM was asked for {body['n']} samples of {body['model']} and sent {len(choices)}")
        rows = [_read_choice(choice, body, vocab) for choice in choices]
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        what = one_line(f"{type(error).__name__}: {error}", 200)
        raise ServerError(f"vLLM's reply cannot be read ({what})") from error
    return [ids for ids, _, _ in rows], [values for _, values, _ in rows], [finish for _, _, finish in rows]


def _read_choice(choice: Mapping, body: Json, vocab: int | None) -> tuple[list[int], list[float], str]:
    ids, values, finish = choice["token_ids"], choice["logprobs"]["token_logprobs"], choice["finish_reason"]
    named = [int(name.removeprefix("token_id:")) for name in choice["logprobs"]["tokens"]]
    reasons = {
        "an id is none": all(type(i) is int and 0 <= i < 2**31 for i in ids),
        "the prompt's ids are not those that were sent": choice["prompt_token_ids"] == body["prompt"],
        "the ids are not those of the log-probabilities": named == ids,
        f"{len(ids)} ids have {len(values)} log-probabilities": len(values) == len(ids) >= 1,
        f"an id has no token, all of which are below {vocab}": vocab is None or all(0 <= i < vocab for i in ids),
        f"{len(ids)} tokens are over the limit of {body['max_tokens']}": len(ids) <= body["max_tokens"],
        f"a response ends with {str(finish)[:40]!r}": finish in ("stop", "length"),
        "a response goes on after a stop token": not set(ids[:-1]) & set(body["stop_token_ids"]),
        "a finish reason does not fit the last token": (finish == "stop") == (ids[-1] in body["stop_token_ids"]),
        f"a response was cut after {len(ids)} of {body['max_tokens']} tokens": finish == "stop"
        or len(ids) == body["max_tokens"],  # vLLM lowers max_tokens by itself where it is out of positions
        "a log-probability is not a number of at most 0": all(math.isfinite(v) and v <= 1e-6 for v in values),
    }
    for reason, good in reasons.items():
        if not good:
            raise ServerError(f"vLLM's reply is not usable: {reason}")
    return ids, values, finish
