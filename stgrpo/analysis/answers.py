"""Single-turn success p(s): a policy is asked the same question n times, and its answers are counted and scored.

Two estimates come of the same answers:

- sampled: the share with the action.
- scored: in the place of "it is this action" stands how probable the action is, given the reasoning that the policy
  itself gave. An answer's text is a head, up to the action, and the action; the cell of the answer is that head with
  each valid action. Given that the answer is one of its cell, the policy chooses each with its share in the cell's
  probability. So this is a conditional expectation of the first estimate: as unbiased, and of no greater variance.

The cell holds whole answers as token ids, the end included, in the form in which the tokenizer writes them. An answer
that is none of its cell (unusable, or spelt otherwise) has no cell and counts as sampled. So nothing depends on how
tokens lie over the border between reasoning and action.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from stgrpo.analysis.graph import Node
from stgrpo.react.policy import Policy, Question, Response
from stgrpo.react.prompt import Message, PromptStyle, render_messages
from stgrpo.react.response import parse_response
from stgrpo.sampling.base import mix_seed

Ids = tuple[int, ...]
CHUNK = 1024
"""Questions of one call."""


class ScoringPolicy(Policy, Protocol):
    """A policy that can tell how probable an answer is. Its responses carry their ids.

    Attributes:
        max_tokens: limit of an answer.
    """

    max_tokens: int

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of whole answers, the end of the turn included."""
        ...

    def score(self, asked: Sequence[tuple[list[Message], Sequence[Ids]]]) -> list[list[float]]:
        """Log-probability of each whole answer to each conversation, as it is sampled."""
        ...


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a policy answered in one state, by the `right` actions of its node.

    Attributes:
        actions: those that have a column.
        sampled_GA: [answers, actions]; 1 where an answer takes the action.
        scored_GA: the same shape; how probable the action is given the reasoning, or as sampled where there is no cell.
        celled: answers with a cell.
    """

    actions: tuple[str, ...]
    sampled_GA: np.ndarray
    scored_GA: np.ndarray
    celled: int

    @property
    def n(self) -> int:
        """Answers."""
        return len(self.sampled_GA)

    def values_GA(self, estimator: str) -> np.ndarray:
        """Of "sampled" or "scored"."""
        return self.sampled_GA if estimator == "sampled" else self.scored_GA

    def probabilities(self, estimator: str) -> dict[str, float]:
        """The estimate of each action's probability."""
        return dict(zip(self.actions, self.values_GA(estimator).mean(axis=0).tolist(), strict=True))


@dataclasses.dataclass(frozen=True)
class Asked:
    """A node to ask about, and a number that its seeds are mixed from."""

    node: Node
    key: int


def ask(
    policy: ScoringPolicy,
    asked: Sequence[Asked],
    *,
    samples: int,
    style: PromptStyle,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Answers]:
    """Asks about each node `samples` times.

    Args:
        policy: that answers.
        asked: the nodes.
        samples: answers a node.
        style: of the prompts; without history, since a state has none.
        progress: called with the number of nodes that are done.
    """
    found: list[Answers] = []
    size = max(1, CHUNK // samples)
    for start in range(0, len(asked), size):
        part = asked[start : start + size]
        questions = [question for each in part for question in _questions(each, samples, style)]
        responses = policy.answer(questions)
        groups = [responses[i * samples : (i + 1) * samples] for i in range(len(part))]
        found += _scored(policy, [each.node for each in part], groups, style)
        progress(len(found))
    return found


def _questions(asked: Asked, samples: int, style: PromptStyle) -> Iterator[Question]:
    messages = render_messages(asked.node.observation, style=style)
    for number in range(samples):
        yield Question(messages, asked.node.valid_actions, mix_seed(asked.key, number))


_Cell = dict[str, Ids]  # the answers that begin with one head, by valid action
_Place = tuple[int, str | None]  # the number of a node, and a head


def _scored(
    policy: ScoringPolicy, nodes: Sequence[Node], groups: Sequence[Sequence[Response | None]], style: PromptStyle
) -> list[Answers]:
    heads = [[_head(node, response) for response in group] for node, group in zip(nodes, groups, strict=True)]
    wanted = dict.fromkeys((i, head) for i, row in enumerate(heads) for head in row if head is not None)
    cells: dict[_Place, _Cell] = {(i, head): _cell(policy, nodes[i], head) for i, head in wanted}
    conversations = {i: render_messages(node.observation, style=style) for i, node in enumerate(nodes)}
    scores = policy.score([(conversations[i], list(cell.values())) for (i, _), cell in cells.items()])
    shares: dict[_Place, dict[str, float]] = {
        at: dict(zip(cell, _shares(row), strict=True)) for (at, cell), row in zip(cells.items(), scores, strict=True)
    }
    found = []
    for i, (node, group) in enumerate(zip(nodes, groups, strict=True)):
        rows = [_row(node, r, cells.get((i, h)), shares.get((i, h))) for r, h in zip(group, heads[i], strict=True)]
        sampled, scored, celled = zip(*rows, strict=True)
        found.append(Answers(node.right, np.array(sampled, float), np.array(scored, float), sum(celled)))
    return found


def _head(node: Node, response: Response | None) -> str | None:
    """The text up to the action; None where the answer cannot be used, or goes on after its action."""
    action = _action(node, response)
    if response is None or action is None or not response.text.endswith(action):
        return None
    return response.text[: -len(action)]


def _action(node: Node, response: Response | None) -> str | None:
    """The action that an answer takes; None where it cannot be used."""
    if response is None or response.failure:
        return None
    parsed = parse_response(response.text, node.valid_actions)
    return None if parsed.failure else parsed.action


def _cell(policy: ScoringPolicy, node: Node, head: str) -> _Cell:
    """Answers that are read as the action they end in and are no longer than an answer may be."""
    texts = {a: head + a for a in node.valid_actions if parse_response(head + a, node.valid_actions).action == a}
    ids = dict(zip(texts, policy.encode(list(texts.values())), strict=True))
    return {action: each for action, each in ids.items() if len(each) <= policy.max_tokens}


def _shares(logprobs: Sequence[float]) -> list[float]:
    if not logprobs:
        return []
    weights = np.exp(np.asarray(logprobs, np.float64) - max(logprobs))
    return (weights / weights.sum()).tolist()


def _row(
    node: Node, response: Response | None, cell: _Cell | None, shares: dict[str, float] | None
) -> tuple[list[float], list[float], bool]:
    """One answer: its action as indicators, the shares of its cell, and whether it has one."""
    action = _action(node, response)
    sampled = [float(action == right) for right in node.right]
    if response is None or cell is None or shares is None or cell.get(action or "") != response.ids:
        return sampled, sampled, False
    return sampled, [shares.get(right, 0.0) for right in node.right], True
