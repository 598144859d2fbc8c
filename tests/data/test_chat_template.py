"""Chat templates from elsewhere: each works, or is refused in one line before anything is computed."""

import datetime
import json
import time

import pytest
from tokenizers import AddedToken
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from stgrpo.data.chat_template import ChatTemplate
from stgrpo.data.tokenizer import CHAT_TEMPLATE, Tokenizer, train_tokenizer
from stgrpo.errors import UserError
from stgrpo.react.prompt import PromptStyle

BARE, FULL = PromptStyle("none", "none"), PromptStyle("full", "last_reasoning_action")
TEXTS = ["table1 is empty", "Reasoning: robot1 is at table1.\nAction: Move robot1 from table1 to stove1"] * 4
OPEN, CLOSE = "'<|im_start|>' + m.role + '\\n'", "'<|im_end|>\\n'"
PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
THINKING = (
    "{%- for m in messages %}{% if m.role == 'assistant' and loop.last %}"
    "{{ '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' + m.content.split('</think>')[-1] + '<|im_end|>\\n' }}"
    "{% else %}{{ " + OPEN + " + m.content.split('</think>')[-1] + " + CLOSE + " }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
    "{% endif %}"
)
PARTS = (
    "{% for m in messages %}{{ " + OPEN + " }}{% for part in m.content %}{{ part.text }}{% endfor %}"
    "{{ " + CLOSE + " }}{% endfor %}" + PROMPT
)
EITHER = PARTS.replace("{% for part", "{% if m.content is string %}{{ m.content }}{% else %}{% for part").replace(
    "{{ part.text }}{% endfor %}", "{{ part.text }}{% endfor %}{% endif %}"
)
DATED = "{{ strftime_now('%d %b %Y') + '\\n' }}" + CHAT_TEMPLATE
WORKS = {"plain": CHAT_TEMPLATE, "thinking switched off": THINKING, "parts": PARTS, "either": EITHER, "dated": DATED}


def chatml(body: str, opening: str = "<|im_start|>assistant\\n") -> str:
    return (
        "{% for m in messages %}{{ " + body + " }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '" + opening + "' }}{% endif %}"
    )


USUAL = f"{OPEN} + m.content + {CLOSE}"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
NESTED = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
REFUSED = {
    "opens a thought": (chatml(USUAL, "<|im_start|>assistant\\n<think>\\n"), "opens an answer with '<think>"),
    "adds a thought": (
        chatml(f"{OPEN} + ('<think></think>' if m.role == 'assistant' else '') + m.content + {CLOSE}"),
        "puts '<think></think>' before what the assistant says",
    ),
    "drops the answer": (chatml(f"'' if m.role == 'assistant' else {USUAL}"), "leaves out what the assistant says"),
    "drops half of it": (
        chatml(f"{OPEN} + (m.content if m.role != 'assistant' else m.content.split(':')[0]) + {CLOSE}"),
        "changes",
    ),
    "no end of a turn": (chatml(f"{OPEN} + m.content"), "ends a turn with ''"),
    "a plain end": (chatml(f"{OPEN} + m.content + '\\n'"), "not a special token"),
    "no system role": (NO_SYSTEM + CHAT_TEMPLATE, "System role not supported.*prompt.instructions=none"),
    "skips the system": (chatml(f"'' if m.role == 'system' else {USUAL}"), "leaves out system messages"),
    "upper case": (chatml(f"{OPEN} + m.content | upper + {CLOSE}"), "leaves out"),
    "syntax": ("{% for m in messages %}{{ m", "TemplateSyntaxError"),
    "filter": (chatml(f"{OPEN} + m.content | shout + {CLOSE}"), "shout"),
    "undefined": (chatml(f"m.tool.name + {USUAL}"), "UndefinedError"),
    "raises": ("{{ raise_exception('never') }}", "never"),
    "endless": (NESTED + CHAT_TEMPLATE, "comes to no end"),
    "recursion": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
    "long range": ("{% for a in range(10 ** 12) %}{% endfor %}" + CHAT_TEMPLATE, "OverflowError"),
    "chance": ("{{ range(9999) | random }}" + CHAT_TEMPLATE, "another text each time"),
    "empty": ("", "no chat template"),
    "nothing": ("{# #}", "leaves out what the assistant says"),
    "blank before the answer": (
        chatml(f"{OPEN}.strip() + (' ' + m.content) + {CLOSE}", "<|im_start|>assistant"),
        "puts ' ' before",
    ),
}


@pytest.fixture(scope="module")
def backend():
    return train_tokenizer(TEXTS, vocab_size=400).backend_tokenizer


def with_template(backend, template, **named) -> Tokenizer:
    named = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"} | named
    return Tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=template, **named))


def loaded(backend, template, folder, **named) -> Tokenizer:
    with_template(backend, template, **named).save(folder)
    return Tokenizer.load(folder)


@pytest.mark.parametrize("name", WORKS)
@pytest.mark.parametrize("style", [BARE, FULL], ids=["bare", "full"])
def test_what_works_is_carried_to_the_byte(backend, tmp_path, name, style):
    tokenizer = loaded(backend, WORKS[name], tmp_path)
    tokenizer.check_style(style)
    tokenizer.save(tmp_path / "saved")
    auto, again = AutoTokenizer.from_pretrained(tmp_path / "saved"), Tokenizer.from_files(tokenizer.files())
    content = "table1 is a table"
    shown = [{"type": "text", "text": content}] if name == "parts" else content
    theirs = auto.apply_chat_template([{"role": "user", "content": shown}], tokenize=False, add_generation_prompt=True)
    ids = auto.encode(theirs, add_special_tokens=False)
    assert content in theirs and ("<think>" in theirs) == (name == "thinking switched off")
    for mine in (tokenizer, again):
        assert mine.encode_prompt([{"role": "user", "content": content}]) == ids
    assert tokenizer.base.convert_ids_to_tokens(tokenizer.end_of_turn_id) == "<|im_end|>"


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_work_is_one_line(backend, tmp_path, name):
    template, said = REFUSED[name]
    before = time.process_time()
    with pytest.raises(UserError, match=said) as error:
        loaded(backend, template, tmp_path).check_style(FULL)
    assert "\n" not in str(error.value) and time.process_time() - before < 20


def test_without_a_system_message_a_template_needs_no_system_role(backend, tmp_path):
    loaded(backend, NO_SYSTEM + CHAT_TEMPLATE, tmp_path).check_style(BARE)


def test_the_day_is_fixed_in_what_is_saved_too(backend, tmp_path):
    tokenizer = loaded(backend, DATED, tmp_path)
    tokenizer.save(tmp_path / "saved")
    said = [{"role": "user", "content": "table1"}]
    text = AutoTokenizer.from_pretrained(tmp_path / "saved").apply_chat_template(said, tokenize=False)
    assert text.startswith("26 Jul 2024\n<|im_start|>user") and f"{datetime.date.today():%Y}" not in text
    assert Tokenizer.load(tmp_path / "saved").base.chat_template == tokenizer.base.chat_template  # not fixed twice


def test_who_asks_for_thinking_in_what_is_saved_gets_it(backend, tmp_path):
    base = loaded(backend, THINKING, tmp_path).base
    assert "<think>" not in base.apply_chat_template(
        SAID, tokenize=False, add_generation_prompt=True, enable_thinking=True
    )


@pytest.mark.parametrize("start", ["", "\n", "  ", "{# a remark #}\n", "\n\n  "])
def test_the_fixed_day_changes_nothing_else(backend, start):
    template = start + "{% set day = '%d' %}\n" + CHAT_TEMPLATE
    said = [{"role": "user", "content": "table1"}]
    plain = ChatTemplate(with_template(backend, template).base, "it").render(said, prompt=True)
    dated = template + "{% if false %}{{ strftime_now('%d') }}{% endif %}"
    assert ChatTemplate(with_template(backend, dated).base, "it").render(said, prompt=True) == plain


SEVERAL = {"default": CHAT_TEMPLATE, "tool_use": "TOOLS " + CHAT_TEMPLATE, "rag": "DOCUMENTS " + CHAT_TEMPLATE}


@pytest.mark.parametrize("form", ["list", "folder"])
def test_of_several_templates_the_default_one_is_used_and_all_are_carried(backend, tmp_path, form):
    with_template(backend, SEVERAL if form == "folder" else CHAT_TEMPLATE).save(tmp_path)
    if form == "list":
        (tmp_path / "chat_template.jinja").unlink()
        file = tmp_path / "tokenizer_config.json"
        listed = [{"name": name, "template": text} for name, text in SEVERAL.items()]
        file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": listed}))
    tokenizer = Tokenizer.load(tmp_path)
    tokenizer.check_style(FULL)
    files = tokenizer.files()
    assert "additional_chat_templates/tool_use.jinja" in files
    for one in (tokenizer, Tokenizer.from_files(json.loads(json.dumps(files)))):
        assert one.base.chat_template == SEVERAL and "TOOLS" not in one.decode(one.encode_prompt(SAID))


SAID = [{"role": "user", "content": "table1"}]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ([{"name": "tool_use", "template": CHAT_TEMPLATE}, {"name": "rag", "template": "x"}], "it has: rag, tool_use"),
        ([{"name": "default", "template": CHAT_TEMPLATE}, {"name": "../../x", "template": "x"}], "'../../x'"),
        ([{"name": "default", "template": None}], "no text"),
        ([{"title": "default"}], "cannot be read"),
        ([], "no chat template"),
        ({"default": 3}, "no text"),
        (7, "no text"),
    ],
)
def test_a_list_of_templates_that_is_wrong_is_one_line(backend, tmp_path, template, said):
    with_template(backend, CHAT_TEMPLATE).save(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": template}))
    with pytest.raises(UserError, match=said) as error:
        Tokenizer.load(tmp_path)
    assert "\n" not in str(error.value) and not (tmp_path.parent / "x.jinja").exists()


def test_the_end_of_a_turn_is_what_the_template_writes(backend, tmp_path):
    """Whatever eos_token says, which for a base model is another one; none at all, or that of the padding, is fine."""
    for number, named in enumerate(({"eos_token": "<|endoftext|>"}, {"eos_token": None}, {"pad_token": "<|im_end|>"})):
        tokenizer = loaded(backend, CHAT_TEMPLATE, tmp_path / str(number), **named)
        assert tokenizer.base.convert_ids_to_tokens(tokenizer.stop_ids[0]) == "<|im_end|>"
        assert tokenizer.encode_response("table1")[-1] == tokenizer.end_of_turn_id
    with pytest.raises(UserError, match="'the' end a text, which occurs in texts: set eos_token"):
        loaded(
            train_tokenizer(["the table"] * 9, vocab_size=300).backend_tokenizer,
            CHAT_TEMPLATE,
            tmp_path,
            eos_token="the",
        )


def test_an_end_that_is_no_special_token_of_the_file_is_not_part_of_what_was_said(backend, tmp_path):
    template = CHAT_TEMPLATE.replace("<|im_end|>", "<end>")
    base = with_template(backend, template).base
    base.add_tokens([AddedToken("<end>", special=False)])
    tokenizer = Tokenizer(base)
    assert tokenizer.decode(tokenizer.encode_response("Action: Move")) == "Action: Move"


def test_a_template_that_writes_the_first_token_itself_has_it_once(backend, tmp_path):
    tokenizer = loaded(
        backend, "{{ bos_token }}" + CHAT_TEMPLATE, tmp_path, bos_token="<|endoftext|>", add_bos_token=True
    )
    ids = tokenizer.encode_prompt(SAID)
    assert ids.count(tokenizer.base.bos_token_id) == 1 and ids[0] == tokenizer.base.bos_token_id
