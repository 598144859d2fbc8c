"""Byte-level BPE by its definition, one merge at a time: the reference for what tokenizers give."""

import functools
import itertools
import re
import unicodedata
from collections.abc import Callable, Sequence

import regex

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_NEWER = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# By the name of a pre-tokenizer in GGUF, the expressions of llama.cpp: each cuts what the one before has left.
SPLITS = {
    "smollm": (r"\p{N}", _GPT2),
    "qwen2": (_NEWER % r"\p{N}",),
    "llama-bpe": (_NEWER % r"\p{N}{1,3}",),
}


def byte_letters() -> dict[int, str]:
    """The letter that stands for each byte: its own where that can be seen, else one from U+0100 on."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in seen]
    return {byte: chr(byte) for byte in seen} | {byte: chr(256 + n) for n, byte in enumerate(hidden)}


def encoder(
    tokens: Sequence[str], merges: Sequence[str], specials: Sequence[str], pre: str
) -> Callable[[str], list[int]]:
    """A function from a text to its ids."""
    numbers, letters = {token: i for i, token in enumerate(tokens)}, byte_letters()
    ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(merges)}

    @functools.cache
    def word(text: str) -> list[int]:
        parts = [letters[byte] for byte in text.encode()]
        if pre == "llama-bpe" and "".join(parts) in numbers:
            return [numbers["".join(parts)]]
        while known := [(ranks[pair], at) for at, pair in enumerate(itertools.pairwise(parts)) if pair in ranks]:
            _, at = min(known)
            parts[at : at + 2] = ["".join(parts[at : at + 2])]
        return [numbers[part] for part in parts]

    def encode(text: str) -> list[int]:
        ids = []
        for piece in re.split(f"({'|'.join(map(re.escape, specials))})", text):
            if piece in specials:
                ids.append(numbers[piece])
            else:
                normal = unicodedata.normalize("NFC", piece) if pre == "qwen2" else piece
                ids += [number for part in _split(normal, pre) for number in word(part)]
        return ids

    return encode


def _split(text: str, pre: str) -> list[str]:
    pieces = [text]
    for expression in SPLITS[pre]:
        pieces = [part for piece in pieces for part in _cut(piece, expression)]
    return pieces


def _cut(text: str, expression: str) -> list[str]:
    """The matches, and what lies between them."""
    parts, at = [], 0
    for match in regex.finditer(expression, text):
        parts += [text[at : match.start()], match.group()]
        at = match.end()
    return [part for part in (*parts, text[at:]) if part]
