"""Tokens: a small tokenizer trained from the data, and one wrapper for it and for those of Qwen2.5 and Llama 3.

The small one is a byte-level BPE made for looking things up, which is what a tiny model finds hard: every object name
that the environment declares is one token wherever it stands, and the words between two names merge freely over blanks,
so most facts are three tokens ("box1", " is in ", "room3") and the fact repeated in a reasoning is the same three.
"""

import importlib.util
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from stgrpo.data.chat_template import ChatTemplate, as_used_here, default_template
from stgrpo.data.padding import common_start
from stgrpo.errors import UserError
from stgrpo.files import check_readable, read_object, refuse_gguf
from stgrpo.react.prompt import Message, PromptStyle, Turn, render_messages
from stgrpo.react.response import format_response

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
MOST_TOKENS = 2**24  # of a vocabulary; the largest that are published have a fortieth of it
_FIX = "give a folder with tokenizer.json and tokenizer_config.json"
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_EOS = "set eos_token in tokenizer_config.json to the special token that ends a text"
_PROBE = format_response("the robot is at table1, and 2 of 10 patties aren't cooked (yet).", "Move robot1 to a stove")
# What a vocabulary lies in, and the library that transformers needs to make a tokenizer.json of it.
_VOCABULARIES = {
    "tokenizer.json": "",
    "vocab.json": "",
    "tokenizer.model": "sentencepiece",
    "tiktoken.model": "tiktoken",
}
_STARTS = ("a", "Z", "1", " b", "\n", "<", "(", '"')  # of observations: letters, digits, blanks, signs
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

    Only fast tokenizers from a local folder; nothing is downloaded and no code of the folder is run. Of several chat
    templates the one called "default" is used. What is saved renders the prompts of this run by default: on a fixed
    day, and without thinking where a template leaves the choice.

    Attributes:
        base: the tokenizer of transformers.
        source: where it is from, for errors.
    """

    base: "PreTrainedTokenizerBase"
    source: str = "the tokenizer"

    @classmethod
    def load(cls, folder: str | Path) -> "Tokenizer":
        """Load a folder in Hugging Face format.

        Raises:
            UserError: if the folder has no tokenizer that can be read, or one without a chat template that can be used.
        """
        folder = Path(folder)
        _check_files(folder)
        try:
            base = _read(folder)
        except Exception as error:  # the reader of tokenizer.json raises no other
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise UserError(f"the tokenizer in {folder} cannot be read ({reason}): {_FIX}") from error
        base.init_kwargs.pop("auto_map", None)  # names a file that `save` would not write
        base.chat_template = _as_used_here(base.chat_template, f"the tokenizer in {folder}")
        tokenizer = cls(base, str(folder))
        tokenizer._check()
        return tokenizer

    @classmethod
    def from_files(cls, files: Mapping[str, str]) -> "Tokenizer":
        """Rebuild a tokenizer from what `files` returned."""
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                path = PurePosixPath(name)
                if path.is_absolute() or ".." in path.parts or str(path) != name or name == ".":
                    raise UserError(f"tokenizer file {name!r} must be a name in a folder: the checkpoint is damaged")
                (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
                (Path(folder) / path).write_text(content, encoding="utf-8", newline="")
            return cls(cls.load(folder).base, "the checkpoint")

    def save(self, folder: str | Path) -> None:
        """Write the folder that `load` and `transformers.AutoTokenizer` read."""
        self.base.save_pretrained(str(folder))

    def files(self) -> dict[str, str]:
        """The contents of the tokenizer's files by name, for a checkpoint to carry; some may lie in a folder."""
        with tempfile.TemporaryDirectory() as folder:
            self.save(folder)
            return {
                path.relative_to(folder).as_posix(): path.read_bytes().decode("utf-8")
                for path in sorted(Path(folder).rglob("*"))
                if path.is_file()
            }

    def check_style(self, style: PromptStyle) -> None:
        """Holds the chat template to the conversations of a run, before anything is computed.

        Raises:
            UserError: a message would be lost or changed, or prompt, answer and end are not the conversation's ids.
        """
        said = Turn("robot1 is at table1. So move.", "Move robot1 from table1 to stove1")
        answer = format_response(said.reasoning, said.action)
        for last in (None, said):
            messages = render_messages("table1 is a table\n\nGoal: Cook patty1 on stove1", style=style, last=last)
            prompt, whole = self._chat.check(messages, answer)
            apart = [*self._encode([prompt])[0], *self.encode_response(answer)]
            if self._encode([whole])[0][: len(apart)] != apart:
                raise UserError(
                    f"the tokenizer in {self.source} gives a prompt and its answer other ids together than each has "
                    "alone: use a byte-level one, as Qwen's and Llama 3's, and a chat template that opens an answer "
                    "with a special token or a line break"
                )

    def common_start(self, style: PromptStyle) -> tuple[int, ...]:
        """Tokens that the prompts of a run begin with, whatever is observed: the instructions, mostly.

        Found from observations that differ in their first letter, first turns and later ones. Where the tokenizer
        joins the end of the instructions with an observation of another kind, a prompt may begin otherwise still.
        """
        last = Turn("robot1 is at table1. So move.", "Move robot1 from table1 to stove1")
        said = [render_messages(text, style=style, last=turn) for text in _STARTS for turn in (None, last)]
        prompts = self.encode_prompts([*said, render_messages("a", style=style, feedback="no action")])
        return common_start(prompts)

    def encode_prompt(self, messages: list[Message]) -> list[int]:
        """The ids of a conversation through the tokenizer's own template, up to where the assistant is to speak."""
        return self.encode_prompts([messages])[0]

    def encode_prompts(self, conversations: Sequence[list[Message]]) -> list[list[int]]:
        """The ids of many conversations, as `encode_prompt` gives them one by one, on all cores."""
        return self._encode([self.render_prompt(messages) for messages in conversations])

    def render_prompt(self, messages: list[Message]) -> str:
        """The text of a conversation, whose ids `encode_prompt` gives."""
        return self._chat.render(messages, prompt=True)

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
        """The text of some ids without special tokens, and without what ends a response."""
        kept = [i for i in ids if i not in self.stop_ids]
        text = self.base.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)  # several lists of ids would give several
        return text

    @cached_property
    def end_of_turn_id(self) -> int:
        """What ends an assistant's turn in the chat template: <|im_end|> in ChatML, <|eot_id|> in Llama 3."""
        rest = self._chat.end_of_turn()
        ids = self._encode([rest])[0]
        if not ids or ids[0] not in self.base.added_tokens_decoder:
            raise UserError(
                f"the chat template of {self.source} ends a turn with {rest[:60]!r}, not a special token: "
                "use another template"
            )
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

    @cached_property
    def _chat(self) -> ChatTemplate:
        return ChatTemplate(self.base, self.source)

    def _check(self) -> None:
        """Raises a UserError for a tokenizer that no run can use."""
        if self.vocab_size > MOST_TOKENS:
            raise UserError(f"the tokenizer in {self.source} has ids up to {self.vocab_size - 1}: {_FIX}")
        plain = set(self._encode([_PROBE])[0]) & set(self.stop_ids)
        if plain:
            token = self.base.convert_ids_to_tokens(plain.pop())
            raise UserError(f"the tokenizer in {self.source} has {token!r} end a text, which occurs in texts: {_EOS}")


def _check_files(folder: Path) -> None:
    """Raises a UserError that names the file which cannot be read, for those that a tokenizer consists of."""
    refuse_gguf(folder)
    vocabularies = [name for name in _VOCABULARIES if os.path.lexists(folder / name)]
    if not vocabularies or not os.path.lexists(folder / _SETTINGS[0]):
        raise UserError(f"{folder} holds no tokenizer: {_FIX}")
    check_readable(folder / vocabularies[0], _FIX)
    library = _VOCABULARIES[vocabularies[0]]
    if library and importlib.util.find_spec(library) is None:
        raise UserError(f"{folder / vocabularies[0]} needs {library}: install it, or give a folder with tokenizer.json")
    for name in _SETTINGS:
        if os.path.lexists(folder / name):
            read_object(folder / name, _FIX)
    for template in (folder / "chat_template.jinja", *(folder / "additional_chat_templates").glob("*.jinja")):
        if os.path.lexists(template):
            check_readable(template, _FIX)


def _read(folder: Path) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if (folder / "tokenizer.json").exists():
        # Not AutoTokenizer: beside a Qwen2 config.json it puts Qwen2's pre-tokenizer in place of the file's own.
        return PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
    made = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    if not isinstance(made, PreTrainedTokenizerFast):
        raise TypeError(f"{type(made).__name__} has no tokenizer.json")
    return PreTrainedTokenizerFast(tokenizer_object=made.backend_tokenizer, **made.init_kwargs)


def _as_used_here(templates: object, source: str) -> object:
    """A tokenizer's chat template or templates, the default one as it is used here."""
    default = as_used_here(default_template(templates, source))
    return {**templates, "default": default} if isinstance(templates, Mapping) else default
