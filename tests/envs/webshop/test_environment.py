"""The environment keeps to the protocol: goals, splits, data and what is said without them, expert, scores."""

import io
import json
import pathlib
import re

import pytest

from stgrpo import envs
from stgrpo.cli import main
from stgrpo.envs.sessions import ProblemSession
from stgrpo.envs.stochastic import FlakyProblem
from stgrpo.envs.webshop import Catalogue, Webshop, make
from stgrpo.envs.webshop.layouts.goals import goals
from stgrpo.envs.webshop.layouts.made import made_catalogue
from stgrpo.envs.webshop.shop.queries import queries
from stgrpo.errors import UserError
from stgrpo.experts.planner_expert import PlannerExpert
from stgrpo.protocol import SPLITS, Demonstrating, Instructing, InvalidAction, Planning, PureEnvironment, Reading

CONFIG = pathlib.Path(__file__).resolve().parents[3] / "configs" / "webshop.py"


def test_it_keeps_to_the_protocol() -> None:
    environment = envs.get("webshop")
    for protocol in (PureEnvironment, Planning, Reading, Instructing):
        assert isinstance(environment, protocol)
    problem = environment.make("shop", "made:5")
    assert isinstance(environment.planner(problem), Demonstrating)
    assert (problem.task, problem.layout, problem.max_steps) == ("shop", "made:5", 15)
    with pytest.raises(InvalidAction):
        problem.step(problem.initial_state(), "click[buy now]")


def test_no_product_is_in_two_splits() -> None:
    environment, asins = envs.get("webshop"), {}
    for split in SPLITS:
        for layout in environment.layouts("shop", "made", split=split, count=90, seed=3):
            asins.setdefault(environment.make("shop", layout).wanted.asin, set()).add(split)
    assert len(asins) > 100 and all(len(splits) == 1 for splits in asins.values())


def test_the_expert_says_what_it_can_see() -> None:
    environment = envs.get("webshop")
    for layout in environment.layouts("shop", "made", split="train", count=10):
        problem = environment.make("shop", layout)
        steps = PlannerExpert(problem, environment.planner(problem)).trajectory().steps
        assert [step.distance for step in steps] == list(range(len(steps), 0, -1))
        for step in steps:
            assert step.action in step.optimal_actions and step.action in step.valid_actions
            for name in re.findall(r"M\d{9}", step.reasoning):
                assert name in step.observation


def test_an_observation_says_what_was_chosen() -> None:
    problem = make("made:0")
    state = problem.initial_state()
    for action in (problem.valid_actions(state)[0], None, f"click[{problem.wanted.options[0][1]}]"):
        state = problem.step(state, action or f"click[{problem.wanted.asin.lower()}]")
    name, value = problem.wanted.options[0]
    assert f"You have chosen {name}: {value}." in problem.observation(state)
    for sub in ("description", "features", "reviews"):
        assert f"Its {sub}:" in problem.observation(problem.step(state, f"click[{sub}]"))
    done = problem.step(state, "click[buy now]")
    assert f"Your score is {problem.reward(done):.2f} of 1." in problem.observation(done)


def test_an_episode_ends_with_a_purchase_and_has_its_score() -> None:
    problem = make("made:0")
    session = ProblemSession(problem)
    assert session.reset().score == 0.0
    session.step(problem.queries and f"search[{problem.queries[0]}]")
    session.step(f"click[{problem.wanted.asin.lower()}]")
    seen = session.step("click[buy now]")
    assert seen.done and not seen.success and seen.score == 0.6  # two attributes and the price, of five
    flaky = FlakyProblem(problem, 0.0)
    assert flaky.is_over(flaky.initial_state()._replace(inner=session.state))


def test_queries_are_parts_of_the_instruction() -> None:
    text = "Find me soft socks with wool for men with color: red [x], and size: one, and price lower than 20.00 dollars"
    whole = "soft socks with wool for men with color: red  x , and size: one"
    assert queries(text) == ("soft socks with wool for men", "soft socks", whole)
    assert queries("Find me ") == ("find me",) and queries("[]") == ("anything",)


def test_goals_are_made_as_the_benchmark_makes_them(real: Catalogue, recorded_sessions: list[dict]) -> None:
    made = {(goal.asin, goal.options): goal for goal in goals(real.products)}
    assert len(goals(real.products)) == 6910
    for session in recorded_sessions:
        recorded = session["goal"]
        goal = made[recorded["asin"], tuple(recorded["goal_options"].items())]
        said = goal.instruction.partition(", and price")[0]
        assert said == recorded["instruction_text"].partition(", and price")[0]
        assert (list(goal.attributes), goal.name, goal.query) == tuple(
            recorded[k] for k in ("attributes", "name", "query")
        )
        assert goal.price_upper > real.product(goal.asin).price


def test_the_made_catalogue() -> None:
    shop = made_catalogue()
    assert len(shop.products) == 240 and len(goals(shop.products)) == 1440
    assert len({product.title for product in shop.products}) > 200
    assert all(min(product.price, 10) > 0 and len(product.options) == 2 for product in shop.products)


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ("made:1440", "there are 1440 goals"),
        ("made:x", 'use "made:I" or "goal:I"'),
        ("kitchen:1", 'use "made:I"'),
        ("goal:1", "not at hand: set --config.env.data=FOLDER or WEBSHOP_DATA"),
    ],
)
def test_layouts_that_there_are_not(layout: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEBSHOP_DATA", raising=False)
    with pytest.raises(UserError, match=said):
        make(layout)


def test_other_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = Webshop()
    with pytest.raises(UserError, match="task 'cook': unknown"):
        environment.make("cook", "made:1")
    with pytest.raises(UserError, match="family 'mad': unknown; did you mean 'made'"):
        environment.layouts("shop", "mad", split="train", count=1)
    with pytest.raises(UserError, match="5000 test goals of shop made asked for, there are 1"):
        environment.layouts("shop", "made", split="test", count=5000)


def test_words_of_the_report() -> None:
    environment = envs.get("webshop")
    assert environment.describe_layouts(["made:1", "made:2"]).startswith("goals in a small catalogue")
    assert environment.describe_layouts(["made:1", "goal:2"]) == "" and environment.benchmark_layouts("shop") == ()


@pytest.mark.parametrize("broken", ["missing", "price", "json"])
def test_bad_data_is_one_line(broken: str, write_folder, mug: dict, tmp_path, capsys: pytest.CaptureFixture) -> None:
    folder = write_folder([mug | ({"pricing": None} if broken == "price" else {})])
    if broken == "json":
        (folder / "documents.jsonl").write_text("{")
    data = tmp_path / "none" if broken == "missing" else folder
    words = [f"--config={CONFIG}:smoke", f"--workdir={tmp_path / 'w'}", "--config.env.family=goals"]
    with pytest.raises(SystemExit) as caught:
        main(["collect", *words, f"--config.env.data={data}"])
    assert caught.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and {"missing": "no folder", "price": "no price", "json": "not JSON"}[broken] in lines[0]


@pytest.mark.slow
def test_every_stage_passes_by(tmp_path: pathlib.Path) -> None:
    fields = ["sft.steps=2", "grpo.steps=2", "grpo.validate_every=2", "evaluation.layouts=2", "expert.trajectories=4"]
    words = [f"--config={CONFIG}:smoke", f"--workdir={tmp_path / 'w'}", *(f"--config.{field}" for field in fields)]
    main(["run", *words])
    summary = json.loads((tmp_path / "w" / "evaluation" / "grpo_unseen.json").read_text())
    assert summary["summary"]["n"] == 2 and summary["summary"]["score"] is not None
    assert "small catalogue of our own" in (tmp_path / "w" / "report.html").read_text()


def test_real_goals_are_collected(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    fields = ["env.family=goals", f"env.data={folder}", "expert.trajectories=3", "expert.validation=1"]
    fields += ["limits.prompt=2048"]  # real pages are longer than those of our own catalogue
    words = [f"--config={CONFIG}:smoke", f"--workdir={tmp_path / 'w'}", *(f"--config.{field}" for field in fields)]
    main(["collect", *words])
    lines = (tmp_path / "w" / "data" / "shop" / "train.jsonl").read_text().splitlines()
    assert len(lines) == 3 and all(json.loads(line)["layout"].startswith("goal:") for line in lines)


def test_a_person_plays_in_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def play(*lines: str, layout: str = "made:0", more: tuple[str, ...] = ()) -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        main(["play", "--env=webshop", f"--layout={layout}", *more])
        return capsys.readouterr().out

    environment = envs.get("webshop")
    problem = environment.make("shop", "made:0")
    way = PlannerExpert(problem, environment.planner(problem)).plan(problem.initial_state())
    shown = play(*way)
    assert shown.endswith(f"\nSolved in {len(way)} steps, score 1.00; the fewest possible: {len(way)}.\n")
    assert "[SEP]" not in shown and "\nPage 1 (Total results: " in shown
    assert f"> ?\n{len(way)} steps to the goal at best, beginning with\n" in play("?", "quit")
    first = problem.observation(problem.initial_state())
    assert f"\n{first}\n> " in play("quit", more=("--raw",)) and f"> raw\n{first}\n" in play("raw")
    too_early = [*way[:2], way[-1]]
    shown = play(*too_early)
    assert "\nOver after 3 steps, not solved, score 0." in shown
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    main(["play", "--env=webshop"])
    assert capsys.readouterr().out.startswith("shop made:0\n")
    with pytest.raises(SystemExit, match="2"):
        play(layout="moon:1")
    assert 'use "made:I" or "goal:I"' in capsys.readouterr().err
