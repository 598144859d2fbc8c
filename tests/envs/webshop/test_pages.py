"""Pages, clicks and rewards are the benchmark's: every recorded page, and rules by hand."""

from stgrpo.envs.webshop import Catalogue, Place, load

GOAL = {
    "asin": "B000000001",
    "name": "Blue Mug <Large>",
    "query": "mugs",
    "product_category": "Home › Kitchen › Mugs",
    "instruction_text": "Find me a mug",
    "attributes": ["dishwasher safe"],
    "goal_options": {"color": "red", "size": "one"},
    "price_upper": 6.0,
}


def test_recorded_pages(real: Catalogue, recorded_sessions: list[dict]) -> None:
    pages = 0
    for session in recorded_sessions:
        problem = real.problem(session["goal"])
        state = problem.initial_state()
        for step in session["steps"]:
            state = problem.act(state, step["action"]) if "action" in step else state
            assert problem.page_text(state) == step["observation"]
            assert problem.clickables(state) == step.get("clickables", [])
            assert problem.reward(state) == step.get("reward", 0.0)
            pages += 1
    assert pages == 876


def test_a_session_by_hand(write_folder, mug: dict) -> None:
    problem = load(write_folder([mug])).problem(GOAL)
    start = problem.initial_state()
    assert problem.page_text(start) == "WebShop [SEP] Instruction: [SEP] Find me a mug [SEP] Search"
    for ignored in ("click[search]", "click[buy now]", "search[]", "search", "foo[x]", "click[]", "a[search[x]]"):
        assert problem.act(start, ignored) == start
    results = problem.act(start, "search[BLUE mugs]")
    assert results.query == "blue mugs" and "Page 1 (Total results: 1) [SEP] Next > [SEP] B0" in problem.page_text(
        results
    )
    second = problem.act(results, "click[next >]")
    assert problem.page_text(second).endswith("Page 2 (Total results: 0) [SEP] < Prev [SEP] Next >".replace("0)", "1)"))
    assert problem.act(second, "click[< Prev]") == results
    item = problem.act(results, "click[b000000001]")
    assert problem.clickables(item)[-3:] == ["blue", "red", "one"]  # "red" once, though two options have it
    assert "Blue Mug <Large> [SEP] Price: $5.0 to $7.0 [SEP] Rating: N.A." in problem.page_text(item)
    chosen = problem.act(problem.act(item, "click[red]"), "click[blue]")
    assert chosen.options == (("size", "red"), ("color", "blue"))  # the last option that has the value
    for sub, said in (
        ("description", ""),
        ("features", " [SEP] dishwasher safe [SEP] "),
        ("reviews", ' [SEP] "Fine" [SEP] 4 [SEP] It holds tea'),
    ):
        page = problem.act(chosen, f"click[{sub}]")
        assert problem.page_text(page).endswith(f"Back to Search [SEP] < Prev{said}")
        assert problem.clickables(page) == ["back to search", "< prev"]
        assert problem.act(page, "click[< prev]") == chosen
    assert problem.act(chosen, "click[< prev]") == results and results.options == ()
    assert problem.act(chosen, "click[back to search]") == start
    done = problem.act(chosen, "click[buy now]")
    assert '[SEP] {"color": "blue", "size": "red"} [SEP]' in problem.page_text(done)
    assert problem.clickables(done) == [] and problem.act(done, "click[< prev]") == done


def test_what_may_not_stand_in_html_is_escaped(write_folder, mug: dict) -> None:
    problem = load(write_folder([mug])).problem(GOAL)
    done = Place("done", "mug", 1, mug["asin"], (("size", "1' & <é"),))
    assert r'{"size": "1\u0027 \u0026 \u003c\u00e9"}' in problem.page_text(done)


def test_other_searches(write_folder, mug: dict) -> None:
    shop = load(write_folder([mug]))
    assert [len(shop.hits(query)) for query in ("<q> mugs", "<c> garden", "<q> pans", "<c> x", "pans", " ", "<c>")] == [
        1,
        1,
        0,
        0,
        0,
        0,
        0,
    ]
