"""A model's answers are scored as the sampler drew them: same weights, same temperature, same ids."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from crossing import Crossing

from stgrpo.analysis.answers import Asked, ask
from stgrpo.analysis.graph import build_graph
from stgrpo.analysis.model_policy import GROUP, ModelPolicy, Scoring
from stgrpo.data.tokenizer import Tokenizer, train_tokenizer
from stgrpo.models.sharding import make_mesh
from stgrpo.react.policy import Question, SamplingParams
from stgrpo.react.prompt import PromptStyle, render_messages
from stgrpo.react.response import format_response
from stgrpo.sampling.jax.sampler import JaxSampler

STYLE = PromptStyle(instructions="none")
PARAMS = SamplingParams(12, 0.7)


@pytest.fixture(scope="module")
def tokenizer():
    texts = [format_response("So go.", "Go east"), format_response("So go.", "Go north"), "grid:2x2 at 0,1"] * 4
    return Tokenizer(train_tokenizer(texts, vocab_size=300))


@pytest.fixture(scope="module")
def policy(tokenizer, tiny_shape, make_model):
    mesh = make_mesh(1, 1, 1, devices=jax.devices()[:1])
    model = make_model(dataclasses.replace(tiny_shape, vocab_size=tokenizer.vocab_size), 3)
    sampler = JaxSampler(model, tokenizer.stop_ids, batch=16, limit=32)
    return ModelPolicy(sampler, model, tokenizer, Scoring(PARAMS, 32, jnp.dtype("float32"), mesh)), sampler


def test_scores_are_the_log_probabilities_of_what_was_drawn(policy, tokenizer):
    """And responses carry the ids of it."""
    asked, sampler = policy
    said = [render_messages(text, style=STYLE) for text in ("grid:2x2 at 0,1", "go", "grid")]
    drawn = sampler.generate(tokenizer.encode_prompts(said), 1, PARAMS, [1, 2, 3])
    responses = asked.answer([Question(messages, ("Go east",), seed) for seed, messages in enumerate(said, start=1)])
    assert [response.ids for response in responses] == [tuple(ids) for (ids,) in drawn.tokens]
    assert [response.text for response in responses] == [tokenizer.decode(ids) for (ids,) in drawn.tokens]
    odd = (3, 1, 2)
    scores = asked.score([(m, [*[odd] * GROUP, r.ids]) for m, r in zip(said, responses, strict=True)])
    for row, (logprobs,) in zip(scores, drawn.logprobs, strict=True):
        assert row[GROUP] == pytest.approx(sum(logprobs), abs=1e-3)
        assert row[:GROUP] == pytest.approx([row[0]] * GROUP) and row[0] != row[GROUP]


class Fixed:
    """A sampler that always says one thing."""

    def __init__(self, ids):
        self.ids = list(ids)

    def generate(self, prompts, group_size, params, seeds):
        from stgrpo.sampling.base import Samples

        n = len(prompts)
        return Samples([[self.ids]] * n, [[[0.0] * len(self.ids)]] * n, [["stop"]] * n, 0)


def test_the_share_of_an_action_is_that_of_its_whole_answer(policy, tokenizer):
    """Against a softmax over the answers' scores, which the test above holds to the sampler's."""
    asked, _ = policy
    problem = Crossing("grid:2x2")
    node = build_graph(problem, problem, most=9).nodes[0]
    texts = [format_response("So go.", action) for action in node.valid_actions]
    ids = asked.encode(texts)
    long = dataclasses.replace(asked._scoring, params=SamplingParams(max(map(len, ids)), 0.7))
    fixed = ModelPolicy(Fixed(ids[1]), asked._model, tokenizer, long)
    (answers,) = ask(fixed, [Asked(node, 0)], samples=2, style=STYLE)
    ((east, north),) = fixed.score([(render_messages(node.observation, style=STYLE), ids)])
    share = 1 / (1 + float(jnp.exp(north - east)))
    assert answers.celled == 2 and node.valid_actions == ("Go east", "Go north")
    assert answers.probabilities("scored")["Go east"] == pytest.approx(share, rel=1e-5)
    assert answers.probabilities("sampled") == {"Go east": 0.0, "Go north": 1.0}
