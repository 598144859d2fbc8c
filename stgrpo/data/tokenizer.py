"""Tokens: a small tokenizer trained from the data, and one wrapper for it and for those of Qwen2.5 and Llama 3.

The small one is a byte-level BPE made for looking things up, which is what a tiny model finds hard: every object name
that the environment declares is one token wherever it stands, and the words between two names merge freely over blanks,
so most facts are three tokens ("box1", " is in ", "room3") and the fact repeated in a reasoning is the same three.
"""

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from stgrpo.errors import UserError
from stgrpo.react.prompt import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

END_OF_TEXT, TURN_START, TURN_END = SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ROLE_HEADERS = ("system\n", "user\n", "assistant\n")
NAME = "[a-z]+[0-9]+"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# What some templates would otherwise take from the clock (Llama 3.2) or add a thinking section for (Qwen3).
TEMPLATE_OPTIONS = {"date_string": "26 Jul 2024", "enable_thinking": False}
OTHER_STOPS = ("<|endoftext|>", "<|end_of_text|>", "<|eom_id|>")


def train_tokenizer(texts: Iterable[str], *, vocab_size: int, names: Sequence[str] = ()) -> "PreTrainedTokenizerFast":
    """Train the byte-level BPE on prompts and responses.

    Object names and role headers are tokens by construction, not by their frequency, so no merge is spent on them and
    a name that never occurs in training (a fourteenth box) has its token too. Being whole tokens, role headers also
    keep the end of a prompt from merging with the beginning of a response.

    Args:
        texts: observations and responses.
        vocab_size: upper limit of the whole vocabulary; less is used where the texts have no more to merge.
        names: of objects, each a word and a number. Where there are any, nothing of this form is merged with its
            neighbours.

    Raises:
        UserError: if `vocab_size` leaves no room for the bytes, names and special tokens.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    fixed = len(SPECIALS) + len(ROLE_HEADERS) + len(names)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if vocab_size < fixed + len(alphabet):
        raise UserError(f"vocab_size={vocab_size} is under the {fixed + len(alphabet)} tokens it must hold: raise it")
    bpe = Tokenizer(models.BPE())
    apart = [pre_tokenizers.Split(Regex(NAME), behavior="isolated")] if names else []
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [*apart, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(ROLE_HEADERS) - len(names),
        special_tokens=list(SPECIALS),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    bpe.train_from_iterator(_between_names(texts) if names else texts, trainer)
    bpe.add_tokens([AddedToken(header, normalized=False) for header in ROLE_HEADERS])
    bpe.add_tokens([AddedToken(name, single_word=True, normalized=False) for name in names])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        chat_template=CHAT_TEMPLATE,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )


def _between_names(texts: Iterable[str]) -> Iterator[list[str]]:
    for text in texts:
        yield [piece for piece in re.split(NAME, text) if piece]


@dataclass
class Tokenizer:
    """A Hugging Face tokenizer with a chat template, reduced to what training and sampling need.

    Only fast tokenizers from a local folder; nothing is downloaded and no code of the folder is run.
    """

    base: "PreTrainedTokenizerBase"

    @classmethod
    def load(cls, folder: str | Path) -> "Tokenizer":
        """Load a folder in Hugging Face format.

        Raises:
            UserError: if the folder has no tokenizer, or one without a chat template.
        """
        from transformers import PreTrainedTokenizerFast

        fix = "give a folder with tokenizer.json and tokenizer_config.json"
        if not all((Path(folder) / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
            raise UserError(f"{folder} holds no tokenizer: {fix}")
        try:
            # Not AutoTokenizer: beside a Qwen2 config.json it puts Qwen2's pre-tokenizer in place of the file's own.
            base = PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"the tokenizer in {folder} cannot be read ({reason}): {fix}") from error
        if not base.chat_template:
            raise UserError(f"the tokenizer in {folder} has no chat template: use that of an instruction-tuned model")
        base.init_kwargs.pop("auto_map", None)  # names a file that `save` would not write
        return cls(base)

    @classmethod
    def from_files(cls, files: Mapping[str, str]) -> "Tokenizer":
        """Rebuild a tokenizer from what `files` returned."""
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                if Path(name).name != name:
                    raise UserError(f"tokenizer file {name!r} must be a plain file name: the checkpoint is damaged")
                (Path(folder) / name).write_text(content, encoding="utf-8")
            return cls.load(folder)

    def save(self, folder: str | Path) -> None:
        """Write the folder that `load` and `transformers.AutoTokenizer` read."""
        self.base.save_pretrained(str(folder))

    def files(self) -> dict[str, str]:
        """The contents of the tokenizer's files by name, for a checkpoint to carry."""
        with tempfile.TemporaryDirectory() as folder:
            self.save(folder)
            return {path.name: path.read_text(encoding="utf-8") for path in sorted(Path(folder).iterdir())}

    def encode_prompt(self, messages: list[Message]) -> list[int]:
        """The ids of a conversation through the tokenizer's own template, up to where the assistant is to speak."""
        return self.encode_prompts([messages])[0]

    def encode_prompts(self, conversations: Sequence[list[Message]]) -> list[list[int]]:
        """The ids of many conversations, as `encode_prompt` gives them one by one, on all cores."""
        return self._encode([self._template(m, tokenize=False, add_generation_prompt=True) for m in conversations])

    def encode_response(self, text: str) -> list[int]:
        """The ids of an assistant's turn, its end-of-turn id included.

        After a prompt's ids they are what the template gives for the whole conversation up to that id; the headers of
        ChatML and of Llama 3 end in a token that nothing merges with. Sampled ids are never passed through this.
        """
        return self.encode_responses([text])[0]

    def encode_responses(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of many turns, as `encode_response` gives them one by one, on all cores."""
        return [[*ids, self.end_of_turn_id] for ids in self._encode(texts)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of some ids without special tokens."""
        return self.base.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    @cached_property
    def end_of_turn_id(self) -> int:
        """What ends an assistant's turn in the chat template: <|im_end|> in ChatML, <|eot_id|> in Llama 3."""
        marker = "stgrpo"
        conversation = [{"role": "user", "content": "?"}, {"role": "assistant", "content": marker}]
        rest = self._template(conversation, tokenize=False).rpartition(marker)[2]
        ids = self.base.encode(rest, add_special_tokens=False)
        if not ids or ids[0] not in self.base.added_tokens_decoder:
            raise UserError(f"the chat template ends a turn with {rest!r}, not a special token: use another template")
        return ids[0]

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """The ids that end a response, the end of the turn first."""
        known = self.base.get_vocab()
        others = [known[token] for token in OTHER_STOPS if token in known]
        if self.base.eos_token_id is not None:
            others.append(self.base.eos_token_id)
        return tuple(dict.fromkeys([self.end_of_turn_id, *others]))

    @property
    def pad_id(self) -> int:
        """An id to fill padding with; it carries no meaning, padding is known by length."""
        return self.end_of_turn_id if self.base.pad_token_id is None else self.base.pad_token_id

    @property
    def vocab_size(self) -> int:
        """One more than the greatest id."""
        return max(self.base.get_vocab().values()) + 1

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of texts, nothing added, cut off or padded, whatever the tokenizer's file would do by itself.

        It asks the tokenizer beneath that of `transformers`, whose own call also lays out masks and offsets.
        """
        tokenizer = self.base.backend_tokenizer
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def _template(self, messages: list[Message], **options: bool) -> "str | list[int]":
        return self.base.apply_chat_template(messages, **TEMPLATE_OPTIONS, **options)
