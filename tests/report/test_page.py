"""The whole page from a small work directory that is written here."""

import html.parser
import json
import re

import pytest

from stgrpo import envs
from stgrpo.evaluation.files import write_evaluation
from stgrpo.evaluation.records import Episode, TurnRecord
from stgrpo.report import build_report

START = """\
Station table1:
table1 is a table
table1 is occupied by robot1
table1 has patty1
table1 has patty1 directly on top of it

Station table2:
table2 is a table
table2 has nothing on it
table2 has no players at it

Item patty1:
patty1 is a hamburger patty
patty1 is at table1
patty1 is directly on top of table1
patty1 has nothing above it

Player robot1:
robot1 is a robot
robot1 is at table1
robot1 is holding nothing

Valid Actions:
Pick up patty1 from table1 using robot1
Do nothing

Goal: Move the patty <i>"""
EVIL = 'Reasoning: </pre><script>alert(1)</script><img src=x onerror=alert(2)>\nAction: Do "nothing" & more'


CONFIG = {"seed": 0, "env": {"name": "robotouille", "tasks": ["burger"], "family": "small"}}


def episode(index: int, success: bool) -> Episode:
    turn = TurnRecord(0, 0, START, EVIL, "<b>", "", "Do nothing", success, success, 3, "stop", 170, 40)
    failure = "" if success else "loop"
    return Episode("burger", f"small:{index}", success, 3 if success else 15, 15, failure, 3, (turn,) * 2, START)


@pytest.fixture
def workdir(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    environment = {"date": "2026-01-02T03:04:05+00:00", "cpu_count": 2, "devices": {"kind": "cpu", "count": 1}}
    (tmp_path / "environment.json").write_text(json.dumps(environment))
    lines = [{"stage": "sft", "step": i, "loss": 1 / i, "response_loss": 1 / i, "seconds": 0.2} for i in range(1, 9)]
    lines += [{"stage": "grpo", "step": i, "reward": 0.5 + i / 99, "kl": i / 999, "note": "<u>"} for i in range(1, 9)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "metrics.jsonl").write_text(text + '{"stage": "grpo", "step": 9, "reward": NaN}\n{"stage": "gr')
    for name, solved in (("sft_unseen", 2), ("grpo_unseen", 5)):
        episodes = [episode(i, i < solved) for i in range(6)]
        write_evaluation(tmp_path / "evaluation", name, episodes, settings={"suite": {"name": "unseen"}})
    return tmp_path


class Checker(html.parser.HTMLParser):
    """Collects tags, and fails on one that closes another than the last opened."""

    void = {"meta", "br", "img", "input", "link"}

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs


def check(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    return checker


@pytest.mark.parametrize("name", ["qwen2.5-1.5b", "custom"])
def test_a_model_that_came_from_a_folder_has_the_name_of_that(name, workdir):
    given = {"name": name, "path": "models/smollm2", "width": 128, "depth": 2}
    (workdir / "config.json").write_text(json.dumps(CONFIG | {"model": given}))
    header = build_report(workdir).read_text().partition("</header>")[0]
    assert "<dd>smollm2</dd>" in header
    assert name not in header and "from scratch" not in header and "128 × 2" not in header


def test_the_page_shows_everything_the_run_left(workdir):
    path = build_report(workdir)
    page = path.read_text()
    assert path == workdir / "report.html"
    for text in ("83.3 %", "exact McNemar test on 6 paired kitchens", "The paper", "Loss", "KL to the SFT policy"):
        assert text in page
    assert "grpo diverged: at step 9 reward is no finite number" in page
    for text in ("1 × cpu, 2 cores", "2026-01-02 03:04", "SFT + GRPO", "ran in circles", "The expert does the same"):
        assert text in page
    assert "1 lines of metrics.jsonl could not be read" in page


def test_the_page_is_well_formed_and_fetches_nothing(workdir):
    page = build_report(workdir).read_text()
    checker = check(page)
    assert not {"link", "img", "iframe", "object"} & set(checker.tags)
    references = [value for name, value in checker.attributes if name in ("href", "src", "xlink:href", "action")]
    assert references and all(value.startswith("#") for value in references)
    assert not re.search(r"https?://|url\(|@import|fetch\(|XMLHttp", page)


def test_what_the_model_said_is_text_and_nothing_else(workdir):
    page = build_report(workdir).read_text()
    checker = check(page)
    assert checker.tags.count("script") == 1 and "<script>alert" not in page and "<img" not in page
    assert not [name for name, _ in checker.attributes if name.startswith("on")]
    assert "&lt;/pre&gt;&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<i>" not in page and "<u>" not in page and "<b></b>" not in page


def test_charts_and_pictures_are_described(workdir):
    page = build_report(workdir).read_text()
    pictures = re.findall(r"<svg (?![^>]*aria-hidden)[^>]*>", page)
    assert pictures and all('role="img"' in tag and "aria-label=" in tag for tag in pictures)


def test_an_empty_work_directory_gives_a_page_of_absences(tmp_path):
    page = build_report(tmp_path).read_text()
    check(page)
    for text in ("No results yet", "No curve yet", "No episode to replay yet", "config.json is absent"):
        assert text in page


def test_missing_grpo_is_said_and_not_an_error(workdir):
    for path in (workdir / "evaluation").glob("grpo_*"):
        path.unlink()
    page = build_report(workdir).read_text()
    check(page)
    assert "SFT + GRPO has not been evaluated" in page and "McNemar" not in page


def test_damaged_files_are_named_and_the_rest_is_shown(workdir):
    (workdir / "evaluation" / "grpo_unseen.episodes.jsonl").write_text("{")
    (workdir / "config.json").write_text("not JSON")
    page = build_report(workdir).read_text()
    check(page)
    assert "grpo_unseen.episodes.jsonl:1" in page and "config.json is not JSON" in page and "33.3 %" in page


def test_observations_of_another_environment_are_shown_as_text(tmp_path):
    turn = TurnRecord(0, 0, "You are in a <maze>.", "x", "go", "", None, None, None, None, "length", 5, 5)
    alone = Episode("maze", "1", False, 1, 1, "timeout", None, (turn,), "A wall.")
    write_evaluation(tmp_path / "evaluation", "sft_maze", [alone], settings={})
    page = build_report(tmp_path).read_text()
    check(page)
    assert "You are in a &lt;maze&gt;." in page and "A wall." in page and "cut off at the length limit" in page


def test_an_environment_draws_its_states_once_the_shapes_are_on_the_page(workdir):
    page = build_report(workdir).read_text()
    shapes = re.findall(r'<symbol id="([^"]*)"', page)
    assert len(shapes) == len(set(shapes)) > 0
    used = re.findall(r'<use href="#([^"]*)"', page)
    assert used and set(used) <= set(shapes)
    assert page.count('<div class="view"><svg') == 12 * 3  # six pairs of episodes; two responses and the end each
    assert "Move the patty &lt;i&gt;" in page and "No pictures" not in page and "one kitchen, before" in page


def test_an_environment_that_is_not_installed_is_said_and_the_rest_is_shown(workdir):
    (workdir / "config.json").write_text(json.dumps({"env": {"name": "hanoi", "tasks": ["burger"]}}))
    page = build_report(workdir).read_text()
    check(page)
    assert "environment &#39;hanoi&#39;: unknown" in page and "No pictures" in page
    assert "exact McNemar test on 6 paired layouts" in page
    assert "kitchen" not in page.lower().replace("kitchens in", "") and "The paper" not in page
    assert "Station table1:" in page and '<div class="view">' not in page


def test_an_environment_may_have_neither_pictures_nor_words(workdir, monkeypatch):
    monkeypatch.setitem(envs._REGISTRY, "plain", {envs.OURS: object})
    (workdir / "config.json").write_text(json.dumps({"env": {"name": "plain", "family": "small"}}))
    page = build_report(workdir).read_text()
    check(page)
    assert "Not everything could be read" in page and "<dt>Layouts</dt><dd>small</dd>" in page
    assert "one layout, before and after GRPO" in page and "No pictures" in page


def test_the_headline_is_the_training_and_served_models_are_in_the_table(workdir):
    write_evaluation(workdir / "evaluation", "Qwen2.5-7B_unseen", [episode(0, True)], settings={"model": "q"})
    page = build_report(workdir).read_text()
    headline = page[page.index('class="headline"') : page.index('id="results"')]
    assert headline.count('class="arrow"') == 1 and "Qwen2.5-7B" not in headline
    assert "Qwen2.5-7B" in page


def served_expert(workdir, split: str = "train", **changes) -> None:
    facts = {
        "kitchens": 9,
        "episodes": 40,
        "successes": 11,
        "unfit": 3,
        "kept": 8,
        "mean_steps": 14.25,
        "mean_excess": 1.125,
        "excess": {"0": 4, "1": 1, "2": 2, "4": 1},
        "failures": {"format": 20, "loop": 9},
        "model": "Llama <70B>",
        "usage": {"requests": 555, "prompt_tokens": 1_234_567, "completion_tokens": 44_321},
        "cost": None,
    }
    path = workdir / "expert" / "burger" / f"{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts | changes))


def test_what_a_served_expert_took_is_shown(workdir):
    assert "The expert</h2>" not in build_report(workdir).read_text()  # the planner is asked nothing
    served_expert(workdir)
    served_expert(workdir, "validation", cost=3.14159, kept=0, mean_steps=None, mean_excess=None, excess={})
    page = build_report(workdir).read_text()
    check(page)
    section = page[page.index('id="expert"') : page.index('id="training"')]
    rows = re.findall(r'<th scope="row">(.*?)</tr>', section, re.DOTALL)
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in rows]
    share = '11 <span class="interval">27.5 %</span>'
    assert cells[0] == ["9", "8", "40", share, "3", "14.2", "1.1", "555", "1,234,567", "44,321", "–"]
    assert [row.partition("<")[0] for row in rows] == ["Burger, train", "Burger, validation"]
    assert cells[1][5:7] == ["–", "–"] and cells[1][-1] == "3.14"
    for text in ("Llama &lt;70B&gt; was sampled", "malformed response <b>20</b>", "solved <b>11</b>"):
        assert text in section
    kept = section[section.index("Burger, train: what was kept") :]
    assert re.findall(r"<b>([0-9]+)</b>", kept)[:3] == ["4", "3", "1"]
    assert "Burger, validation: what was kept" not in section and 'href="#expert"' in page


def test_what_no_planner_measured_is_a_dash_and_said_once(workdir):
    served_expert(workdir, mean_excess=None, excess={})
    page = build_report(workdir).read_text()
    check(page)
    section = page[page.index('id="expert"') : page.index('id="training"')]
    assert section.count("No planner measured") == 1 and "what was kept</b>" not in section
    served_expert(workdir)
    assert "No planner measured" not in build_report(workdir).read_text()


def test_how_many_layouts_were_tried_is_read_under_either_name(workdir):
    served_expert(workdir, layouts=77)
    assert "<td>77</td>" in build_report(workdir).read_text()


@pytest.mark.parametrize("text", ["{", "[]", '{"kitchens": 9}'])
def test_a_damaged_summary_of_an_expert_is_named(workdir, text):
    served_expert(workdir)
    (workdir / "expert" / "burger" / "validation.json").write_text(text)
    page = build_report(workdir).read_text()
    check(page)
    assert "expert/burger/validation.json is no summary of an expert" in page and "1,234,567" in page


def test_a_damaged_analysis_is_named_and_the_rest_is_shown(workdir):
    for text, said in (
        ("{", "is not JSON"),
        ('{"settings": {}}', "is not as this version writes it"),
        ("[]", "a list"),
    ):
        (workdir / "analysis.json").write_text(text)
        page = build_report(workdir).read_text()
        assert said in page and 'id="theory"' not in page and 'id="results"' in page
