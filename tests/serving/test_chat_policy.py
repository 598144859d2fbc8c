"""A served model as a policy: what is sent, what is read, what is refused; regular expressions against `re`."""

import re

import pytest

from stgrpo.errors import RequestRefused, ServerError
from stgrpo.react.policy import Question, Response, SamplingParams
from stgrpo.react.response import parse_response
from stgrpo.serving.address import server_addresses
from stgrpo.serving.chat_policy import ChatPolicy, Constraint
from stgrpo.serving.client import ClientSettings, HttpClient

ACTIONS = ("Move robot1 from table1 to table2", "Boil pot1's contents on stove1 using robot1", "Do nothing")
PARAMS = SamplingParams(max_tokens=64, temperature=0.7, top_p=0.9)


def question(text="go", seed=3):
    return Question([{"role": "user", "content": text}], ACTIONS, seed)


def policy(server, *, params=PARAMS, constraint=None, model="m"):
    client = HttpClient(
        server_addresses(server.address), ClientSettings(timeout=5.0, retries=1, backoff=0.01, concurrency=4)
    )
    made = ChatPolicy(client, model, params, constraint)
    made.connect()
    return made


def asked(server):
    return [r["body"] for r in server.requests if r["path"].endswith("/chat/completions")]


def test_a_request_says_all_that_decides_the_answer(chat):
    server = chat(lambda body: "yes sir")
    assert policy(server).answer([question()]) == [Response("yes sir", "stop", 1, 2)]
    assert asked(server) == [
        {"model": "m", "messages": [{"role": "user", "content": "go"}], "max_tokens": 64, "n": 1, "temperature": 0.7,
         "top_p": 0.9, "seed": 3}
    ]  # fmt: skip


def test_what_vllm_would_take_from_the_generation_config_is_sent_too(chat):
    server = chat(lambda body: "yes", owner="vllm")
    policy(server).answer([question()])
    policy(server, params=SamplingParams(8, 0.0, top_k=5)).answer([question()])
    first, second = asked(server)
    assert (first["top_k"], first["min_p"], first["repetition_penalty"]) == (-1, 0.0, 1.0)
    assert first["chat_template_kwargs"]["enable_thinking"] is False
    assert (second["top_k"], second["temperature"]) == (5, 0.0)


def test_answers_come_in_order_from_many_threads(chat):
    server = chat(lambda body: f"{body['messages'][0]['content']} {body['seed']}")
    answers = policy(server).answer([question(str(i), seed=10 + i) for i in range(20)])
    assert [a.text for a in answers] == [f"{i} {10 + i}" for i in range(20)]


def test_a_cut_answer_and_an_empty_one_are_told_apart(chat):
    replies = {"a": ("Reasoning: I", "length"), "b": ("", "stop")}
    made = policy(chat(lambda body: replies[body["messages"][0]["content"]]))
    assert [(r.text, r.finish) for r in made.answer([question("a"), question("b")])] == list(replies.values())


def whole(message, finish="stop", **more):
    choice = {"message": message, "finish_reason": finish, **more}
    return {"choices": [choice], "usage": {"prompt_tokens": 2, "completion_tokens": 9}}


@pytest.mark.parametrize(
    "message",
    [
        {"content": None},
        {},
        {"content": "", "reasoning_content": "Let me think"},
        {"content": " ", "reasoning": "Let me think"},
        {"content": "<think>\nLet me think"},
    ],
)
def test_an_answer_that_is_all_thoughts_is_the_models_failure(chat, message):
    (answer,) = policy(chat(lambda body: (200, {}, whole(message, "length")))).answer([question()])
    assert (answer.failure, answer.finish, answer.n_tokens) == ("thinking", "length", 9)


@pytest.mark.parametrize(
    ("reply", "said", "requests"),
    [
        (
            whole({"content": ""}, "error", error={"code": 502, "message": "provider\x1b gone"}),
            "provider\ufffd gone",
            2,
        ),
        (whole({"content": ""}, "error"), "finish_reason error", 2),
        (whole({"content": "Reas"}, "abort"), "finish_reason abort", 2),
        (whole({"content": "Reas"}, "OTHER"), "finish_reason OTHER", 2),
        (whole({"content": "Reas"}, "SAFETY"), "filtered", 1),
        (whole({"content": ""}, "content_filter"), "filtered", 1),
        (whole({"content": None, "refusal": "I cannot"}), "refused: I cannot", 1),
        (whole({"content": None}), "content is null", 2),
        ({"error": {"code": 503, "message": "no provider"}}, "no provider", 2),
        ({"object": "error", "message": "down", "code": 500}, "down", 2),
        ({"choices": [], "usage": {}}, "no choices", 2),
        ({"choices": None}, "no choices", 2),
        ((400, {}, {"error": {"code": "content_filter", "message": "flagged"}}), "flagged", 1),
    ],
)
def test_a_server_without_an_answer_is_asked_again_by_its_code_and_not_scored_as_the_model(chat, reply, said, requests):
    server = chat(lambda body: reply if isinstance(reply, tuple) else (200, {}, reply))
    (answer,) = policy(server).answer([question()])
    assert answer.failure == "server" and said in answer.text and "\n" not in answer.text
    assert len(asked(server)) == requests


@pytest.mark.parametrize(("reason", "finish"), [("MAX_TOKENS", "length"), ("end_turn", "stop"), ("STOP", "stop")])
def test_other_words_for_the_two_reasons_are_understood(chat, reason, finish):
    (answer,) = policy(chat(lambda body: (200, {}, whole({"content": "Reas"}, reason)))).answer([question()])
    assert (answer.failure, answer.finish) == ("", finish)


def test_an_unknown_reason_is_said_once(chat, caplog):
    made = policy(chat(lambda body: (200, {}, whole({"content": "Reas"}, "bored\n"))))
    answers = [made.answer([question()])[0] for _ in range(2)]
    assert [(a.failure, a.finish) for a in answers] == [("", "bored\n")] * 2
    assert [r.message.count("finish_reason bored") for r in caplog.records if "finish" in r.message] == [1]


@pytest.mark.parametrize("code", [400, 401, 403, 404, "404", "invalid_api_key"])
def test_an_error_in_a_reply_that_is_the_users_ends_at_once(chat, code):
    server = chat(lambda body: (200, {}, {"error": {"code": code, "message": "no such model"}}))
    with pytest.raises(RequestRefused, match="no such model"):
        policy(server).answer([question()])
    assert len(asked(server)) == 1


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"choices": ["x"], "usage": {"prompt_tokens": 1, "completion_tokens": 1}},
        {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]},
        {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}},
        {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}],
         "usage": {"prompt_tokens": 1, "completion_tokens": 10**400}},
        {"choices": [{"message": "x", "finish_reason": "stop"}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}},
        {"choices": [{"message": {"content": [1]}, "finish_reason": "stop"}],
         "usage": {"prompt_tokens": 1, "completion_tokens": 1}},
        {"choices": [{"message": {"content": "x"}, "finish_reason": None}],
         "usage": {"prompt_tokens": 1, "completion_tokens": 1}},
    ],
)  # fmt: skip
def test_a_reply_that_is_no_chat_completion_is_an_error(chat, reply):
    server = chat(lambda body: (200, {}, reply))
    with pytest.raises(ServerError, match=f"{server.address}/v1: the reply"):
        policy(server).answer([question()])


def test_the_servers_own_word_on_a_wrong_model(chat):
    refusal = {"error": {"message": "The model `n` does not exist.", "type": "NotFoundError", "code": 404}}
    with pytest.raises(RequestRefused, match="404, The model `n` does not exist"):
        policy(chat(lambda body: (404, {}, refusal)), model="n").answer([question()])


def test_a_server_without_a_list_of_models_is_asked_plainly(serve):
    def reply(request):
        if request["path"] == "/v1/models":
            return 404, {}, b"no such route"
        choice = {"message": {"content": "hi"}, "finish_reason": "stop"}
        return 200, {}, {"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}

    server = serve(reply)
    assert policy(server).answer([question()])[0].text == "hi"
    assert "top_k" not in asked(server)[0]


def test_addresses_of_a_field():
    field = "http://a:1/v1, https://b/openai/v1/,http://c:2/"
    assert [a.base for a in server_addresses(field)] == ["http://a:1/v1", "https://b/openai/v1", "http://c:2/v1"]
    field = "https://g/v1beta/openai/,https://z/api/paas/v4,https://a/openai/deployments/d?api-version=2024-10-21"
    assert [a.url("/chat/completions") for a in server_addresses(field)] == [
        "https://g/v1beta/openai/chat/completions",
        "https://z/api/paas/v4/chat/completions",
        "https://a/openai/deployments/d/chat/completions?api-version=2024-10-21",
    ]
    assert server_addresses("https://p/chat/completions")[0].url("/models") == "https://p/models"


def test_the_pattern_holds_exactly_the_usable_answers():
    pattern = Constraint(reasoning_chars=60).pattern(ACTIONS)
    usable = ["short", "two lines\nand a (third)", "Action: no, not yet; Action: none", "x" * 60]
    for reasoning in usable:
        for action in ACTIONS:
            text = f"Reasoning: {reasoning}\nAction: {action}"
            parsed = parse_response(text, ACTIONS)
            assert re.fullmatch(pattern, text) and (parsed.failure, parsed.action) == ("", action)
    refused = ["", "\n", "two\nActions", "x" * 61]
    for text in [f"Reasoning: {r}\nAction: Do nothing" for r in refused] + [
        "Reasoning: a\nAction: Do nothing ", "Reasoning: a\nAction: Fly", "Action: Do nothing",
        "Reasoning: a\nAction: Boil pot1s contents on stove1 using robot1", "Reasoning: a\nAction: Do nothing\nmore",
    ]:  # fmt: skip
        assert not re.fullmatch(pattern, text), text


def test_special_characters_of_actions_stand_for_themselves():
    odd = "a.b*c (1|2) [x] {3} \\ ^$?+"
    pattern = Constraint(9).pattern([odd])
    assert re.fullmatch(pattern, f"Reasoning: r\nAction: {odd}")
    assert not re.fullmatch(pattern, "Reasoning: r\nAction: aXb*c (1|2) [x] {3} \\ ^$?+")


def test_a_server_that_constrains_is_believed(chat):
    def reply(body):
        if body["structured_outputs"]["regex"] == "constrained":
            return "constrained"
        return "Reasoning: so\nAction: Do nothing"

    server = chat(reply)
    (answer,) = policy(server, constraint=Constraint(100)).answer([question()])
    assert answer.text.endswith("Do nothing")
    assert re.fullmatch(asked(server)[1]["structured_outputs"]["regex"], answer.text)


def test_a_server_that_ignores_the_constraint_is_found_out_at_once(chat):
    with pytest.raises(ServerError, match="ignores structured_outputs .*'four'.*constrain_action=False"):
        policy(chat(lambda body: "four"), constraint=Constraint(100))


def test_a_server_that_stops_constraining_is_found_out(chat):
    def reply(body):
        return "constrained" if body["structured_outputs"]["regex"] == "constrained" else "Reasoning: a\nAction: Fly"

    made = policy(chat(reply), constraint=Constraint(100))
    with pytest.raises(ServerError, match="ignores structured_outputs .*said 'Fly'"):
        made.answer([question()])


def test_a_constrained_answer_that_was_cut_is_no_breach(chat):
    def reply(body):
        return "constrained" if body["structured_outputs"]["regex"] == "constrained" else ("Reasoning: and", "length")

    (answer,) = policy(chat(reply), constraint=Constraint(100)).answer([question()])
    assert answer.finish == "length"


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ({"code": 50011, "message": "rate limit reached", "data": None}, "rate limit reached"),
        ({"error_code": 18, "error_msg": "qps limit reached"}, "qps limit reached"),
        ({"base_resp": {"status_code": 1002, "status_msg": "rate limit"}}, "rate limit"),
        ({"detail": "model is loading"}, "model is loading"),
        ({"status": "error", "message": "backend died"}, "backend died"),
        ({"success": False, "errors": [{"message": "quota used up"}]}, "quota used up"),
    ],
)
def test_an_error_without_that_name_is_asked_again_and_shown_in_the_servers_words(chat, reply, words):
    server = chat(lambda body: (200, {}, reply))
    (answer,) = policy(server).answer([question()])
    assert answer.failure == "server" and "the server answers with an error: " in answer.text
    assert words in answer.text and len(asked(server)) == 2
    refused = chat(lambda body: (200, {}, {"code": 401, "message": "no such key"}))
    with pytest.raises(RequestRefused, match="no such key"):
        policy(refused).answer([question()])
