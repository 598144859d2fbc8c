"""Half a surrogate pair in an answer: replaced where it enters, and no writer or reader of it ends anything."""

import json

from stgrpo.cli import main
from stgrpo.evaluation.files import read_evaluation
from stgrpo.evaluation.journal import Journal
from stgrpo.files import from_json

CONFIG = "--config=configs/tiny.py:smoke"
SAID = "Reasoning: \ud83d \U0001f600 \x00 \u202e caf\u00e9\nAction: no"


def test_an_answer_with_half_a_pair_is_evaluated_and_reported(chat, tmp_path, capsys):
    server = chat(lambda body: (SAID, "length"))
    fields = [f"--config.policy.{f}" for f in ("kind=server", f"server={server.address}", "model=m")]
    where = [CONFIG, f"--workdir={tmp_path / 'w'}", "--config.evaluation.layouts=1", *fields]
    main(["evaluate", *where])
    main(["report", *where])
    (episode,) = read_evaluation(tmp_path / "w" / "evaluation", "m_unseen").episodes
    assert episode.turns[0].response == SAID.replace("\ud83d", "\ufffd")
    assert "\ufffd \U0001f600" in (tmp_path / "w" / "report.html").read_text()


def test_a_journal_of_an_older_version_is_read(tmp_path):
    turn = {"step": 0, "attempt": 0, "observation": "o", "response": SAID, "action": None, "failure": "action",
            "expert": None, "exact": None, "optimal": None, "distance": None, "finish": "length",
            "n_prompt_tokens": 1, "n_tokens": 1}  # fmt: skip
    episode = {"task": "t", "layout": "l", "success": False, "steps": 0, "cap": 3, "failure": "format",
               "optimal_steps": None, "last_observation": "o"}  # fmt: skip
    line = {"try": 0, "episode": episode, "turns": [turn]}
    for text in (json.dumps(line).encode(), json.dumps(line, ensure_ascii=False).encode(errors="surrogatepass")):
        (tmp_path / "j").write_bytes(b'{"settings": {}}\n' + text + b"\n")
        journal = Journal(tmp_path / "j", {})
        assert journal.episodes["t", "l", 0].turns[0].response == SAID.replace("\ud83d", "\ufffd")
        journal.close()


def test_whole_pairs_and_all_other_text_stay_as_they_are():
    text = SAID.replace("\ud83d", "") + "\ufeff\u2028"
    assert from_json(json.dumps([text])) == [text]
