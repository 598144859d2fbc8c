"""A key is checked where it is read and hidden in every form in which somebody may repeat it."""

import base64
import json
import logging
from urllib.parse import quote

import pytest
from commands import call

from stgrpo.errors import UserError
from stgrpo.serving.key import Key, read_key

CANARY = 'sk-canary/"q\\u+4f9c2e7a81'
CONFIG = "--config=configs/tiny.py:smoke"


@pytest.mark.parametrize("tail", ["\n", "\r", "\r\n", " ", "\t", "\x1f", "\x7f", "é", "–", "\u2028", "\ud83d"])
@pytest.mark.parametrize("at", [0, 5, 99])
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(monkeypatch, tail, at):
    monkeypatch.setattr("stgrpo.serving.key.os.environ", {"MY_KEY": CANARY[:at] + tail + CANARY[at:]})
    with pytest.raises(UserError, match="client.key_variable='MY_KEY': character .* of the key is ") as caught:
        read_key("MY_KEY")
    assert "canary" not in str(caught.value) and "4f9c" not in str(caught.value) and str(caught.value).isprintable()


@pytest.mark.parametrize(
    "form",
    [
        CANARY, repr(CANARY), json.dumps(CANARY), quote(CANARY), quote(CANARY, safe=""), f"Bearer {CANARY}",
        *(base64.b64encode(f"{who}{CANARY}{after}".encode()).decode()
          for who in ("", "u:", "us:", "Bearer ") for after in ("", ":", ":x")),
        CANARY[:15], CANARY[9:],
    ],
)  # fmt: skip
def test_a_key_is_hidden_in_every_form(form):
    hidden = Key(CANARY).hide(f"wrong key {form} given")
    assert hidden.startswith("wrong key ") and hidden.endswith(" given") and "***" in hidden
    pieces = [CANARY, quote(CANARY, safe=""), base64.b64encode(CANARY.encode()).decode()]
    assert not any(piece[i : i + 9] in hidden for piece in pieces for i in range(len(piece) - 8))
    assert CANARY not in repr(Key(CANARY))


def test_a_word_for_a_key_leaves_answers_alone():
    assert Key("EMPTY").remove("The pot is EMPTY") == "The pot is EMPTY"
    assert Key("EMPTY").hide("wrong key EMPTY") == "wrong key ***"


@pytest.mark.parametrize("status", [200, 400, 401, 500])
@pytest.mark.parametrize("section", ["policy", "expert"])
def test_a_server_that_repeats_the_key_does_not_bring_it_into_any_file_or_line(
    chat, tmp_path, capsys, caplog, monkeypatch, status, section
):
    monkeypatch.setenv("MY_KEY", CANARY)
    caplog.set_level(logging.DEBUG)
    forms = f"{CANARY} {CANARY!r} {quote(CANARY)} {base64.b64encode(CANARY.encode()).decode()}"
    said = f"Reasoning: {CANARY}\nAction: {CANARY}" if status == 200 else None
    server = chat(lambda body: said or (status, {}, {"error": {"message": f"bad {forms}", "key": CANARY}}))
    stage, kind = {"policy": ("evaluate", "server"), "expert": ("collect", "llm")}[section]
    fields = [f"--config.{section}.{field}" for field in (f"kind={kind}", f"server={server.address}", "model=m")]
    more = ("--config.client.key_variable=MY_KEY", "--config.client.retries=0", "--config.evaluation.layouts=2")
    few = ("--config.expert.trajectories=2", "--config.expert.tries=1")
    call(stage, CONFIG, f"--workdir={tmp_path / 'w'}", *fields, *more, *few)
    call("report", CONFIG, f"--workdir={tmp_path / 'w'}", *fields, *more, *few)
    assert server.requests
    shown = capsys.readouterr()
    told = [shown.out, shown.err, caplog.text, *(p.read_text() for p in (tmp_path / "w").rglob("*") if p.is_file())]
    for text in told:
        assert "canary" not in text and "4f9c2e7a81" not in text


@pytest.mark.parametrize(
    "field",
    [
        "policy.server=http://user:CANARY@127.0.0.1:1", "policy.server=http://CANARY@h/v1",
        "policy.server=http://h?key=CANARY",
        "policy.server=http://h/v1?api-version=1&token=CANARY", "policy.server=http://h?CANARY",
        "policy.server=http://h:CANARY",
        "policy.server=http://user:1?CANARY@h", "policy.server=CANARY", "policy.server=http://h/\nCANARY",
        "expert.server=http://user:CANARY@127.0.0.1:1", "rollout.servers=('http://user:CANARY@h:1',)",
        "rollout.servers=('http://h:1?key=CANARY',)", "client.key_variable=sk-CANARY1",
        "client.key_variable=sk_Canary1CANARY",
    ],
)  # fmt: skip
@pytest.mark.parametrize("more", [(), ("--dry_run",)])
def test_a_secret_in_a_field_is_refused_and_not_shown(tmp_path, capsys, field, more):
    kinds = ("--config.policy.kind=server", "--config.policy.model=m", "--config.policy.server=http://127.0.0.1:1")
    expert = ("--config.expert.kind=llm", "--config.expert.model=m", "--config.expert.server=http://127.0.0.1:1")
    where = f"--workdir={tmp_path / 'w'}"
    assert call("evaluate", CONFIG, where, *kinds, *expert, f"--config.{field}", *more) == 2
    shown = capsys.readouterr()
    assert "CANARY" not in shown.out + shown.err and shown.err.count("\n") == 1
    assert not (tmp_path / "w").exists()
