"""Several groups in one row: what ragged prompts and responses would pad is given to other groups.

A row is groups laid end to end, each its prompt once and then its responses. A token sees what came before it in its
own group, the prompt and its own response only; positions are those the response would have alone behind its prompt. So
the numbers are those of unpacked groups, and SFT is the case of one response a group.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Generic

import jax
import numpy as np

from stgrpo.data.padding import bucket
from stgrpo.training.batch import A, GroupBatch, LossTerms


@dataclasses.dataclass(frozen=True)
class PackedBatch(Generic[A]):
    """Rows X of S tokens with M places for predicted tokens each.

    Attributes:
        token_XS: ids.
        position_XS: of each token behind its own prompt.
        segment_ids_XS: number of the group in the row, from 1; 0 for padding.
        response_ids_XS: 0 for a prompt's token, else the number of the response in its group, from 1. None where every
            group has one response, which is then plain causal attention within a group.
        source_XM: place in the row of the hidden state that predicts the token.
        target_XM: the token.
        terms: of the loss, each [X, M]; what fills a row up has mask and weight 0.
    """

    token_XS: A
    position_XS: A
    segment_ids_XS: A
    response_ids_XS: A | None
    source_XM: A
    target_XM: A
    terms: LossTerms[A]

    def with_logprobs(self, ref_logp: A, old_logp: A | None) -> "PackedBatch[A]":
        """The batch with these log-probabilities, laid out like its terms."""
        return dataclasses.replace(self, terms=dataclasses.replace(self.terms, ref_logp=ref_logp, old_logp=old_logp))

    def with_values(self, *, value: A, adv: A, returns: A) -> "PackedBatch[A]":
        """The batch with a critic's values and what was counted from them, laid out like its terms."""
        return dataclasses.replace(self, terms=dataclasses.replace(self.terms, value=value, adv=adv, returns=returns))

    @property
    def tokens(self: "PackedBatch[np.ndarray] | PackedBatch[jax.Array]") -> int:
        """Real tokens, each prompt counted once."""
        return int((self.segment_ids_XS > 0).sum())

    @property
    def size(self) -> int:
        """Tokens that the model computes, padding included."""
        return self.token_XS.size

    @property
    def shape_text(self) -> str:
        """The sizes a program is compiled for, for people."""
        (X, S), M = self.token_XS.shape, self.target_XM.shape[1]
        return f"{X} rows of {S} tokens, {M} of them predicted"


jax.tree_util.register_dataclass(PackedBatch, [f.name for f in dataclasses.fields(PackedBatch)], [])


Batch = GroupBatch | PackedBatch


def fit_rows(sizes: Sequence[int], row: int) -> list[list[int]]:
    """Which items lie in which row, by first fit in order of decreasing size; ties keep their order.

    Args:
        sizes: tokens of each item.
        row: tokens a row has room for.

    Raises:
        ValueError: an item is larger than a row.
    """
    if max(sizes, default=0) > row:
        raise ValueError(f"an item of {max(sizes)} tokens does not fit a row of {row}")
    rows: list[list[int]] = []
    room: list[int] = []
    for item in np.argsort(-np.asarray(sizes), kind="stable").tolist():
        place = next((i for i, left in enumerate(room) if left >= sizes[item]), len(rows))
        if place == len(rows):
            rows.append([])
            room.append(row)
        rows[place].append(item)
        room[place] -= sizes[item]
    return rows


def row_count(rows: int, unit: int) -> int:
    """The least multiple of `unit` ≥ rows among at most eight sizes an octave: few programs, little padding."""
    step = unit * max(1, 2 ** ((rows // unit).bit_length() - 4))
    return -(-rows // step) * step


def target_count(targets: int, row: int) -> int:
    """The least multiple of an eighth of a row ≥ targets: what is too much goes through the head alone."""
    step = max(row // 8, 16)
    return -(-max(targets, 1) // step) * step


def pack(batch: GroupBatch[np.ndarray], row: int, *, unit: int = 1) -> PackedBatch[np.ndarray]:
    """A batch of groups on the host, as rows.

    Args:
        batch: NumPy arrays; prompt tokens are predicted too where it has weights for them.
        row: tokens a row; where a group is longer, all rows are as long as it needs.
        unit: the number of rows is a multiple of this: devices times micro-batches.
    """
    length_BG, G = batch.mask_BGR.sum(-1).astype(int), batch.response_BGR.shape[1]
    sizes = (batch.prompt_len_B + length_BG.sum(-1)).tolist()
    rows = fit_rows(sizes, bucket(max(sizes), smallest=row))
    given = batch.terms  # computed, so taken once
    fields = {f.name: getattr(given, f.name) for f in dataclasses.fields(given)}
    terms_BGR = {name: np.asarray(values) for name, values in fields.items() if values is not None}
    groups = [[_Group(batch, b, length_BG[b]) for b in members] for members in rows]
    X, S = row_count(len(rows), unit), bucket(max(sizes), smallest=row)
    M = target_count(max(sum(len(g.target) for g in members) for members in groups), S)
    tokens = {name: np.zeros((X, S), np.int32) for name in ("token", "position", "group", "branch")}
    predicted = {name: np.zeros((X, M), np.int32) for name in ("source", "target")}
    terms = {name: np.zeros((X, M), values.dtype) for name, values in terms_BGR.items()}
    for x, members in enumerate(groups):
        at, to = 0, 0
        for number, group in enumerate(members, start=1):
            here, there = slice(at, at + len(group.token)), slice(to, to + len(group.target))
            tokens["token"][x, here], tokens["position"][x, here] = group.token, group.position
            tokens["group"][x, here], tokens["branch"][x, here] = number, group.branch
            predicted["source"][x, there], predicted["target"][x, there] = at + group.source, group.target
            for name, values in group.terms(terms_BGR).items():
                terms[name][x, there] = values
            terms["response_id"][x, there] += (number - 1) * G
            at, to = here.stop, there.stop
    return PackedBatch(
        token_XS=tokens["token"],
        position_XS=tokens["position"],
        segment_ids_XS=tokens["group"],
        response_ids_XS=tokens["branch"] if G > 1 else None,
        source_XM=predicted["source"],
        target_XM=predicted["target"],
        terms=LossTerms(**terms),
    )


class _Group:
    """One group of a batch as a stretch of a row."""

    def __init__(self, batch: GroupBatch[np.ndarray], b: int, length_G: np.ndarray):
        self._b, self._length_G = b, length_G
        prompt_len, weight_BP = int(batch.prompt_len_B[b]), batch.prompt_weight_BP
        prompt = batch.prompt_BP[b, :prompt_len]
        responses = [batch.response_BGR[b, g, :n] for g, n in enumerate(length_G)]
        starts = prompt_len + np.cumsum([0, *length_G])
        self.token = np.concatenate([prompt, *responses])
        self.position = np.concatenate([np.arange(prompt_len), *(prompt_len + np.arange(n) for n in length_G)])
        self.branch = np.repeat(np.arange(len(length_G) + 1), [prompt_len, *length_G])
        self._prompt_weight = np.zeros(0) if weight_BP is None else weight_BP[b, 1:prompt_len]  # of all after the first
        self._in_prompt = len(self._prompt_weight)
        sources = [np.arange(self._in_prompt)]
        for start, n in zip(starts, length_G, strict=False):
            sources.append(np.concatenate([[prompt_len - 1], start + np.arange(n - 1)])[:n])
        self.source = np.concatenate(sources).astype(np.int32)
        self.target = np.concatenate([prompt[1 : 1 + self._in_prompt], *responses])

    def terms(self, terms_BGR: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Of the loss, for each target, out of those of the whole batch."""
        found = {}
        for name, values_BGR in terms_BGR.items():
            real = [values_BGR[self._b, g, :n] for g, n in enumerate(self._length_G)]
            found[name] = np.concatenate([np.zeros(self._in_prompt, values_BGR.dtype), *real])
        found["weight"][: self._in_prompt] = self._prompt_weight
        return found
