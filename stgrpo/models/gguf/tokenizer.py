"""The tokenizer of a GGUF file: vocabulary and merges as they are, and the pre-tokenizer, of which a file has the name.

Transformers' own reader of GGUF knows no such names: it gives every Llama GPT-2's pre-tokenizer, and with it SmolLM2
other ids where blanks stand before a digit.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from stgrpo.data.chat_template import default_template
from stgrpo.data.tokenizer import Tokenizer
from stgrpo.errors import UserError
from stgrpo.models.gguf.file import AGAIN, GgufFile

if TYPE_CHECKING:
    from tokenizers import AddedToken
    from tokenizers import Tokenizer as Backend
    from tokenizers.pre_tokenizers import PreTokenizer

_CONTROL, _USER_DEFINED, _UNUSED = 3, 4, 5  # kinds of tokens; the unused ones only fill the rows of the embedding
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _digits_then_gpt2() -> "PreTokenizer":
    from tokenizers import pre_tokenizers

    digits = pre_tokenizers.Digits(individual_digits=True)
    return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])


def _words(numbers: str) -> "PreTokenizer":
    from tokenizers import Regex, pre_tokenizers

    split = pre_tokenizers.Split(Regex(_WORDS % numbers), behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


PRE_TOKENIZERS: Mapping[str, Callable[[], "PreTokenizer"]] = {
    "smollm": _digits_then_gpt2,
    "qwen2": lambda: _words(r"\p{N}"),
    "llama-bpe": lambda: _words(r"\p{N}{1,3}"),
}
"""By the name in `tokenizer.ggml.pre`."""


def read_tokenizer(file: GgufFile) -> Tokenizer:
    """The tokenizer of a file, with its chat template.

    Raises:
        UserError: it is of a kind that is not supported, is not whole, or has no chat template.
    """
    from transformers import PreTrainedTokenizerFast

    pre = _pre_tokenizer(file)
    tokens, kinds, merges = (file.need(f"tokenizer.ggml.{name}", list) for name in ("tokens", "token_type", "merges"))
    template = default_template(file.get("tokenizer.chat_template"), file.source)
    names = {role: _special(file, role, tokens) for role in ("bos", "eos", "padding")}
    try:
        backend = _backend(pre, tokens, kinds, merges)
    except Exception as error:  # the library raises no other for a vocabulary that it cannot use
        raise UserError(f"{file.source}: its tokenizer cannot be built ({error}): {AGAIN}") from error
    base = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=template,
        bos_token=names["bos"],
        eos_token=names["eos"],
        pad_token=names["padding"],
        add_bos_token=names["bos"] is not None and _adds_bos(file, pre),
        clean_up_tokenization_spaces=False,
    )
    return Tokenizer(base, file.source)


def _pre_tokenizer(file: GgufFile) -> str:
    kind, pre = file.get("tokenizer.ggml.model"), file.get("tokenizer.ggml.pre")
    if kind != "gpt2":
        raise UserError(
            f"{file.source}: a tokenizer of the kind {kind!r} is not supported: use a model with byte-level BPE"
        )
    if not isinstance(pre, str) or pre not in PRE_TOKENIZERS:
        known = ", ".join(PRE_TOKENIZERS)
        raise UserError(f"{file.source}: the pre-tokenizer {pre!r} is not supported: use a model with one of {known}")
    return pre


def _backend(pre: str, tokens: Sequence[str], kinds: list[int], merges: Sequence[str]) -> "Backend":
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, normalizers

    vocabulary = {t: i for i, (t, kind) in enumerate(zip(tokens, kinds, strict=True)) if kind != _UNUSED}
    if len(vocabulary) != len(tokens) - kinds.count(_UNUSED):
        raise ValueError("a token is there twice")
    pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
    backend = Backend(models.BPE(vocabulary, pairs, ignore_merges=pre == "llama-bpe"))
    if pre == "qwen2":
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = PRE_TOKENIZERS[pre]()
    backend.decoder = decoders.ByteLevel()
    backend.add_tokens([_added(t, kinds[i]) for t, i in vocabulary.items() if kinds[i] in (_CONTROL, _USER_DEFINED)])
    return backend


def _added(token: str, kind: int) -> "AddedToken":
    from tokenizers import AddedToken

    return AddedToken(token, normalized=False, special=kind == _CONTROL)


def _special(file: GgufFile, role: str, tokens: Sequence[str]) -> str | None:
    number = file.get(f"tokenizer.ggml.{role}_token_id")
    if number is None:
        return None
    if not isinstance(number, int) or not 0 <= number < len(tokens):
        raise UserError(f"{file.source}: {role}_token_id={number} is no token of its {len(tokens)}: {AGAIN}")
    return tokens[number]


def _adds_bos(file: GgufFile, pre: str) -> bool:
    """Whether a text by itself begins with the token for that; llama.cpp does so for Llama 3 where nothing is said."""
    given = file.get("tokenizer.ggml.add_bos_token")
    return pre == "llama-bpe" if given is None else bool(given)
