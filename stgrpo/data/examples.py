"""Trajectories cut into single-turn examples, and the order in which training meets them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np

from stgrpo.data.records import Step, Trajectory
from stgrpo.errors import UserError
from stgrpo.react.prompt import Message, PromptStyle, Turn, render_messages
from stgrpo.react.response import ParsedResponse, feedback, format_response

_BATCH = 1024  # examples encoded at a time: enough for all cores, and what is between text and ids stays small


class Encoder(Protocol):
    """What examples need of a tokenizer (`stgrpo.data.tokenizer.Tokenizer` has it)."""

    def encode_prompts(self, conversations: Sequence[list[Message]]) -> list[list[int]]:
        """The ids of each conversation, up to where the answer starts."""
        ...

    def encode_responses(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each answer, its end-of-turn token included."""
        ...


@dataclass(frozen=True)
class Example:
    """One state of the single-turn MDP as tokens, with the expert's response (its end-of-turn token included)."""

    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    step: Step
    task: str
    layout: str
    index: int  # of the step in its trajectory


def build_examples(
    trajectories: Iterable[Trajectory],
    tokenizer: Encoder,
    style: PromptStyle,
    *,
    max_prompt_len: int,
    max_response_len: int,
) -> list[Example]:
    """One example for every state of every trajectory, in order; its history is the expert's own last turn.

    Raises:
        UserError: if a prompt or response is longer than its limit; nothing is ever cut off. It names the longest.
    """
    examples = _examples(trajectories, tokenizer, style)
    for part, limit in (("prompt", max_prompt_len), ("response", max_response_len)):
        length, longest = _longest(examples, part)
        if length > limit:
            raise UserError(
                f"a {part} of {length} tokens ({longest}) is longer than limits.{part}={limit}: "
                f"set --config.limits.{part} to at least {length}"
            )
    return examples


def longest_parts(trajectories: Iterable[Trajectory], tokenizer: Encoder, style: PromptStyle) -> tuple[int, int]:
    """Tokens of the longest prompt and of the longest response that `build_examples` would make."""
    examples = _examples(trajectories, tokenizer, style)
    return _longest(examples, "prompt")[0], _longest(examples, "response")[0]


def tokenizer_texts(trajectories: Iterable[Trajectory], style: PromptStyle) -> Iterator[str]:
    """The texts to train a tokenizer on: all that prompts and responses of these trajectories can consist of.

    With each trajectory come the messages of error feedback, which the expert never causes but a model does; the action
    they name is the last of the valid ones.
    """
    for trajectory in trajectories:
        last: Turn | None = None
        for step in trajectory.steps:
            for message in render_messages(step.observation, style=style, last=last):
                yield message["content"]
            yield format_response(step.reasoning, step.action)
            last = Turn(reasoning=step.reasoning, action=step.action)
        first = trajectory.steps[0]
        for failure in ("reasoning", "action", "invalid"):
            refused = feedback(ParsedResponse(reasoning="", action=first.valid_actions[-1], failure=failure))
            yield render_messages(first.observation, style=style, feedback=refused)[-1]["content"]


def _examples(trajectories: Iterable[Trajectory], tokenizer: Encoder, style: PromptStyle) -> list[Example]:
    states, examples = turns(trajectories, style), []
    while batch := list(islice(states, _BATCH)):
        examples += _encode(batch, tokenizer)
    return examples


def turns(trajectories: Iterable[Trajectory], style: PromptStyle) -> Iterator[tuple[list[Message], Trajectory, int]]:
    """Each state's messages, the trajectory it is in, and its place there; its history is the expert's last turn."""
    for trajectory in trajectories:
        last: Turn | None = None
        for index, step in enumerate(trajectory.steps):
            yield render_messages(step.observation, style=style, last=last), trajectory, index
            last = Turn(reasoning=step.reasoning, action=step.action)


def _encode(states: Sequence[tuple[list[Message], Trajectory, int]], tokenizer: Encoder) -> list[Example]:
    steps = [trajectory.steps[index] for _, trajectory, index in states]
    prompts = tokenizer.encode_prompts([messages for messages, _, _ in states])
    responses = tokenizer.encode_responses([format_response(step.reasoning, step.action) for step in steps])
    return [
        Example(tuple(prompt), tuple(response), step, trajectory.task, trajectory.layout, index)
        for prompt, response, step, (_, trajectory, index) in zip(prompts, responses, steps, states, strict=True)
    ]


def _longest(examples: list[Example], part: str) -> tuple[int, str]:
    lengths = [len(e.prompt_ids if part == "prompt" else e.response_ids) for e in examples]
    if not lengths:
        return 0, ""
    longest = examples[int(np.argmax(lengths))]
    return max(lengths), f"{longest.task} {longest.layout} step {longest.index}"


def epoch_order(n: int, *, seed: int, epoch: int) -> np.ndarray:
    """[n] int64, the order of the examples in one epoch: a permutation that depends on (n, seed, epoch) alone.

    It sorts raw Philox output, whose stream NumPy guarantees; `Generator.permutation` may change between versions, and
    a run resumed after an upgrade would see some examples twice.
    """
    keys = np.random.Philox(np.random.SeedSequence([seed, epoch])).random_raw(n)
    return np.argsort(keys, kind="stable")


def stream_indices(n: int, start: int, count: int, seed: int) -> np.ndarray:
    """[count] int64, examples `start` to `start + count` of all epochs laid end to end.

    A pure function of its arguments.

    Raises:
        ValueError: if there is no example to take.
    """
    if n < 1:
        raise ValueError("there are no examples to make a batch of")
    positions = np.arange(start, start + count)
    orders = [epoch_order(n, seed=seed, epoch=e) for e in range(positions[0] // n, positions[-1] // n + 1)]
    return np.concatenate(orders)[positions - positions[0] // n * n]


def batch_indices(n: int, batch: int, step: int, seed: int) -> np.ndarray:
    """[batch] int64, the examples of the global batch `step`: a resumed run needs only its step.

    Epochs are laid end to end and cut into batches, so a batch may take the end of one and the beginning of the next,
    and every example is met once an epoch.
    """
    return stream_indices(n, step * batch, batch, seed)


LENGTH_WINDOW = 64  # batches; wide enough that batches of a window have nearly one length each


def length_grouped_indices(lengths: Sequence[int] | np.ndarray, batch: int, step: int, seed: int) -> np.ndarray:
    """[batch] int64, like `batch_indices`, but with examples of about one length, so that little is padded.

    Windows of 64 batches are sorted by length, cut into batches and these are shuffled: every example is still met once
    an epoch (but for the end of the last window), and the lengths come in random order.
    """
    window, offset = divmod(step, LENGTH_WINDOW)
    rows = stream_indices(len(lengths), window * LENGTH_WINDOW * batch, LENGTH_WINDOW * batch, seed)
    rows = rows[np.argsort(np.asarray(lengths)[rows], kind="stable")].reshape(LENGTH_WINDOW, batch)
    keys = np.random.Philox(np.random.SeedSequence([seed, window, 1])).random_raw(LENGTH_WINDOW)
    return rows[np.argsort(keys, kind="stable")[offset]]
