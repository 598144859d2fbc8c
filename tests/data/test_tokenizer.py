"""The small tokenizer on the benchmark's own observations, and the wrapper on the templates of Qwen2.5 and Llama 3."""

import json
import re
from pathlib import Path

import pytest
from recordings import Recordings
from tokenizers import AddedToken
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from stgrpo.data.tokenizer import NAME, Tokenizer, train_tokenizer
from stgrpo.envs.robotouille.kitchen.names import OBJECT_NAMES
from stgrpo.errors import UserError
from stgrpo.react.prompt import PromptStyle, Turn, render_messages

RESPONSE = (
    "Reasoning: robot1 is at table1. robot1 is holding nothing. Next, patty1 must go on top of bottombun1. "
    "patty1 is at table3. So move there.\nAction: Move robot1 from table1 to table3"
)
ODD_TEXTS = [
    "",
    " ",
    "\n\n",
    "table1table2 table15 table10 xtable1 table1's",
    "user\nassistant\n the user\n",
    "Café 日本 🍔 \t\r\n",
    " leading and trailing ",
]


@pytest.fixture(scope="module")
def observations(recordings: Recordings) -> list[str]:
    return sorted({line["obs"] for name in ("expert", "layouts") for line in recordings.lines(name)})


@pytest.fixture(scope="module")
def small(observations: list[str]) -> Tokenizer:
    return Tokenizer(train_tokenizer([*observations[::10], RESPONSE], vocab_size=1024, names=OBJECT_NAMES))


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode_response(text)[:-1]


def test_round_trip_is_exact(small: Tokenizer, observations: list[str]) -> None:
    for text in [*observations, RESPONSE, *ODD_TEXTS]:
        assert small.decode(small.encode_response(text)) == text


def test_a_name_is_one_token_and_the_same_everywhere(small: Tokenizer) -> None:
    for name in OBJECT_NAMES:
        (token,) = ids_of(small, name)
        for text in (f" {name}", f"\n{name}", f"{name}.", f"({name})", f"Move {name} from {name}\n"):
            assert ids_of(small, text).count(token) == text.count(name)
    assert len(set(OBJECT_NAMES)) == len(OBJECT_NAMES)


def test_a_name_beyond_the_list_is_not_cut_into_a_listed_one(small: Tokenizer) -> None:
    (table1,) = ids_of(small, "table1")
    assert table1 not in ids_of(small, "table15") and table1 not in ids_of(small, "xtable1")


def test_without_names_what_looks_like_one_is_learned_as_any_text() -> None:
    texts = ["door3 is open. Go to door3"] * 9
    plain = Tokenizer(train_tokenizer(texts, vocab_size=300))
    assert len(ids_of(plain, "door3")) < 5 and plain.decode(ids_of(plain, texts[0])) == texts[0]
    named = Tokenizer(train_tokenizer(texts, vocab_size=300, names=("door1", "door2", "door3")))
    assert len(ids_of(named, "door3")) == len(ids_of(named, "door2")) == 1


def test_a_fact_is_the_same_tokens_in_observation_and_reasoning(small: Tokenizer, observations: list[str]) -> None:
    fact = ids_of(small, "robot1 is at table1")
    assert len(fact) == 3

    def holds(text: str) -> bool:
        ids = ids_of(small, text)
        return any(ids[i : i + 3] == fact for i in range(len(ids)))

    seen = [text for text in observations if "robot1 is at table1\n" in text]
    assert seen and all(holds(text) for text in seen) and holds(RESPONSE)


def test_responses_are_short(small: Tokenizer, observations: list[str]) -> None:
    assert len(small.encode_response(RESPONSE)) <= 30
    names = [len(re.findall(NAME, text)) for text in observations]
    lengths = [len(ids_of(small, text)) for text in observations]
    assert sum(lengths) <= 2.2 * sum(names)


def test_prompt_and_response_join_as_the_template_joins_them(small: Tokenizer) -> None:
    check_joined(small)
    assert small.stop_ids[0] == small.end_of_turn_id == small.encode_response("x")[-1]
    assert small.base.convert_ids_to_tokens(list(small.stop_ids)) == ["<|im_end|>", "<|endoftext|>"]
    assert small.base.convert_ids_to_tokens(small.pad_id) == "<|endoftext|>"
    assert small.vocab_size == len(small.base) <= 1024


def check_joined(tokenizer: Tokenizer) -> None:
    messages = [
        {"role": "system", "content": "Plan."},
        {"role": "user", "content": "Previous Observation: Omitted"},
        {"role": "assistant", "content": "Previous Action: Do nothing"},
        {"role": "user", "content": "table1 is a table\n\nGoal: Prepare a hamburger on a table"},
    ]
    whole = [*messages, {"role": "assistant", "content": RESPONSE}]
    rendered = tokenizer.base.apply_chat_template(whole, tokenize=True, return_dict=False, date_string="26 Jul 2024")
    joined = tokenizer.encode_prompt(messages) + tokenizer.encode_response(RESPONSE)
    assert rendered[: len(joined)] == joined
    assert all(type(i) is int for i in joined)


def test_saved_folder_loads_with_auto_tokenizer(small: Tokenizer, observations: list[str], tmp_path: Path) -> None:
    small.save(tmp_path)
    auto, loaded = AutoTokenizer.from_pretrained(tmp_path), Tokenizer.load(tmp_path)
    rebuilt = Tokenizer.from_files(json.loads(json.dumps(small.files())))
    messages = [{"role": "user", "content": observations[0]}]
    for text in [*observations[::25], RESPONSE, *ODD_TEXTS]:
        ids = ids_of(small, text)
        assert auto.encode(text, add_special_tokens=False) == ids
        assert ids_of(loaded, text) == ids_of(rebuilt, text) == ids
    for other in (loaded, rebuilt):
        assert other.encode_prompt(messages) == small.encode_prompt(messages)
        assert (other.stop_ids, other.pad_id, other.vocab_size) == (small.stop_ids, small.pad_id, small.vocab_size)
    assert auto.apply_chat_template(messages, add_generation_prompt=True).input_ids == small.encode_prompt(messages)


def test_many_at_once_are_what_transformers_gives_one_by_one(
    small: Tokenizer, observations: list[str], tmp_path: Path
) -> None:
    texts = [*observations[::40], RESPONSE, *ODD_TEXTS]
    conversations = [[{"role": "system", "content": "Plan."}, {"role": "user", "content": text}] for text in texts]
    small.save(tmp_path)
    file = json.loads((tmp_path / "tokenizer.json").read_text())
    file["truncation"] = {"direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0}
    file["padding"] = {"strategy": {"Fixed": 400}, "direction": "Left", "pad_to_multiple_of": None}
    file["padding"] |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "<|endoftext|>"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(file))
    for tokenizer in (small, Tokenizer.load(tmp_path)):
        options = {"tokenize": True, "add_generation_prompt": True, "return_dict": False}
        theirs = [list(small.base.apply_chat_template(messages, **options)) for messages in conversations]
        assert tokenizer.encode_prompts(conversations) == theirs
        theirs = [small.base.encode(text, add_special_tokens=False) for text in texts]
        assert [ids[:-1] for ids in tokenizer.encode_responses(texts)] == theirs
        assert {ids[-1] for ids in tokenizer.encode_responses(texts)} == {small.end_of_turn_id}


QWEN_TEMPLATE = (
    "{% if messages[0]['role'] == 'system' %}{{ '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>system\nYou are Qwen.<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{% if m.role != 'system' %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA_TEMPLATE = (
    "{{ bos_token }}{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{{ '<|start_header_id|>system<|end_header_id|>\n\nToday: ' + date_string + '<|eot_id|>' }}"
    "{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim"
    " + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)


def like(small: Tokenizer, template: str, specials: list[str], **named: str) -> Tokenizer:
    """A tokenizer with another family's special tokens and template over the same text."""
    base = PreTrainedTokenizerFast(tokenizer_object=small.base.backend_tokenizer, chat_template=template, **named)
    base.add_tokens([AddedToken(token, special=True) for token in specials], special_tokens=True)
    return Tokenizer(base)


def test_qwen_template(small: Tokenizer) -> None:
    qwen = like(small, QWEN_TEMPLATE, [], eos_token="<|im_end|>", pad_token="<|endoftext|>")
    check_joined(qwen)
    assert qwen.base.convert_ids_to_tokens(list(qwen.stop_ids)) == ["<|im_end|>", "<|endoftext|>"]


def test_llama_template_has_no_clock(small: Tokenizer) -> None:
    specials = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    llama = like(small, LLAMA_TEMPLATE, specials, bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>")
    ids = llama.encode_prompt([{"role": "user", "content": "table1"}])
    assert "Today: 26 Jul 2024" in llama.decode(ids)
    assert ids[0] == llama.base.bos_token_id and ids.count(ids[0]) == 1
    assert llama.base.convert_ids_to_tokens(list(llama.stop_ids))[:1] == ["<|eot_id|>"]
    assert "<|end_of_text|>" in llama.base.convert_ids_to_tokens(list(llama.stop_ids))
    assert llama.pad_id == llama.end_of_turn_id


def test_users_mistakes(small: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="vocab_size=100 is under the .* raise it"):
        train_tokenizer(["text"], vocab_size=100)
    with pytest.raises(UserError, match="holds no tokenizer"):
        Tokenizer.load(tmp_path)
    files = small.files()
    with pytest.raises(UserError, match="must be a name in a folder"):
        Tokenizer.from_files({"../tokenizer.json": "{}"})
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "tokenizer_config.json").write_text(files["tokenizer_config.json"])
    (damaged / "tokenizer.json").write_text(files["tokenizer.json"][:1000])
    with pytest.raises(UserError, match="cannot be read"):
        Tokenizer.load(damaged)
    with pytest.raises(UserError, match="no chat template"):
        Tokenizer.from_files({name: text for name, text in files.items() if name != "chat_template.jinja"})


@pytest.mark.parametrize("history", ["none", "last_action", "last_reasoning_action"])
@pytest.mark.parametrize("instructions", ["none", "full"])
def test_prompts_begin_with_what_is_said_to_be_common_and_share_little_more(
    small: Tokenizer, observations: list[str], instructions: str, history: str
) -> None:
    style, last = PromptStyle(instructions=instructions, history=history), Turn("so move", "Move")
    start = list(small.common_start(style))
    said = [render_messages(text, style=style, last=turn) for text in observations[::50] for turn in (None, last)]
    said.append(render_messages("[1]", style=style, feedback="no"))
    prompts = small.encode_prompts(said)
    assert all(ids[: len(start)] == start for ids in prompts)
    system = small.encode_prompt(said[0][:1]) if instructions == "full" else []
    assert len(start) >= max(len(system) - 4, 2)  # all but the answer's opening there
    assert len({tuple(ids[: len(start) + 3]) for ids in prompts}) > 1
