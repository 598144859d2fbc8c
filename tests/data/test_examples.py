"""Examples hold every state once, and their order depends on (seed, step) alone."""

import numpy as np
import pytest

from stgrpo.data.examples import (
    LENGTH_WINDOW,
    batch_indices,
    build_examples,
    epoch_order,
    length_grouped_indices,
    tokenizer_texts,
)
from stgrpo.data.records import Step, Trajectory
from stgrpo.errors import UserError
from stgrpo.react.prompt import PromptStyle


class Letters:
    """A tokenizer whose ids are the characters, so that examples can be read."""

    def encode_prompts(self, conversations: list[list[dict[str, str]]]) -> list[list[int]]:
        return [[ord(c) for m in messages for c in f"<{m['role']}>{m['content']}"] for messages in conversations]

    def encode_responses(self, texts: list[str]) -> list[list[int]]:
        return [[*map(ord, text), 0] for text in texts]


def trajectory(name: str, actions: str) -> Trajectory:
    steps = tuple(
        Step(f"seen {action}", (action,), f"why {action}", action, (action,), len(actions) - i)
        for i, action in enumerate(actions)
    )
    return Trajectory("burger", name, steps)


TRAJECTORIES = [trajectory("small:1", "ab"), trajectory("small:2", "c")]
LIMITS = {"max_prompt_len": 200, "max_response_len": 100}


def text(ids: tuple[int, ...]) -> str:
    return "".join(map(chr, ids))


def test_one_example_a_state_with_the_expert_as_history() -> None:
    style = PromptStyle("none", "last_reasoning_action")
    examples = build_examples(TRAJECTORIES, Letters(), style, **LIMITS)
    assert [text(e.prompt_ids) for e in examples] == [
        "<user>seen a",
        "<user>Previous Observation: Omitted<assistant>Previous Reasoning: why a\n\nPrevious Action: a<user>seen b",
        "<user>seen c",
    ]
    assert [text(e.response_ids) for e in examples] == [f"Reasoning: why {a}\nAction: {a}\0" for a in "abc"]
    assert [(e.layout, e.index, e.step.action) for e in examples] == [
        ("small:1", 0, "a"),
        ("small:1", 1, "b"),
        ("small:2", 0, "c"),
    ]


def test_examples_do_not_depend_on_how_many_are_encoded_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    style = PromptStyle("none", "last_reasoning_action")
    whole = build_examples(TRAJECTORIES * 3, Letters(), style, **LIMITS)
    monkeypatch.setattr("stgrpo.data.examples._BATCH", 2)
    assert build_examples(iter(TRAJECTORIES * 3), Letters(), style, **LIMITS) == whole and len(whole) == 9


def test_too_long_names_the_longest() -> None:
    style = PromptStyle("none", "last_action")
    with pytest.raises(UserError) as caught:
        build_examples(TRAJECTORIES, Letters(), style, max_prompt_len=20, max_response_len=100)
    assert str(caught.value) == (
        "a prompt of 76 tokens (burger small:1 step 1) is longer than limits.prompt=20: "
        "set --config.limits.prompt to at least 76"
    )
    with pytest.raises(UserError, match="a response of 27 tokens .* set --config.limits.response to at least 27"):
        build_examples(TRAJECTORIES, Letters(), style, max_prompt_len=76, max_response_len=26)
    assert len(build_examples(TRAJECTORIES, Letters(), style, max_prompt_len=76, max_response_len=27)) == 3


def test_tokenizer_texts_are_all_that_can_be_said() -> None:
    texts = list(tokenizer_texts(TRAJECTORIES, PromptStyle("none", "last_action")))
    for part in ("seen a", "Reasoning: why c\nAction: c", "Previous Action: a", "Previous Observation: Omitted"):
        assert part in texts
    assert sum(t.startswith("Error Feedback: The ") for t in texts) == 6


@pytest.mark.parametrize(("n", "batch"), [(10, 4), (7, 7), (3, 8), (1, 5), (100, 1)])
def test_every_example_once_an_epoch(n: int, batch: int) -> None:
    steps = -(-4 * n // batch)
    stream = np.concatenate([batch_indices(n, batch, step, 3) for step in range(steps)])
    for epoch in range(4):
        np.testing.assert_array_equal(stream[epoch * n : (epoch + 1) * n], epoch_order(n, seed=3, epoch=epoch))
        assert sorted(stream[epoch * n : (epoch + 1) * n]) == list(range(n))


def test_order_is_a_pure_function_of_seed_and_step() -> None:
    batches = [batch_indices(50, 8, step, 0) for step in range(20)]
    for step in (19, 0, 7):
        np.testing.assert_array_equal(batch_indices(50, 8, step, 0), batches[step])
    assert not np.array_equal(epoch_order(50, seed=0, epoch=0), epoch_order(50, seed=0, epoch=1))
    assert not np.array_equal(epoch_order(50, seed=0, epoch=0), epoch_order(50, seed=1, epoch=0))
    # Written down, so that a change of NumPy that would break resumed runs is seen.
    assert epoch_order(8, seed=0, epoch=0).tolist() == [0, 3, 7, 5, 1, 2, 6, 4]


def test_no_examples() -> None:
    with pytest.raises(ValueError, match="no examples"):
        batch_indices(0, 4, 0, 0)


def test_batches_grouped_by_length_meet_every_example_once_and_waste_little():
    lengths = np.random.default_rng(0).integers(100, 500, 4 * LENGTH_WINDOW)
    batches = [length_grouped_indices(lengths, 4, step, 7) for step in range(2 * LENGTH_WINDOW)]
    for epoch in (batches[:LENGTH_WINDOW], batches[LENGTH_WINDOW:]):
        assert sorted(np.concatenate(epoch)) == list(range(len(lengths)))
        longest = [lengths[rows].max() for rows in epoch]
        assert sum(longest) * 4 < 1.05 * lengths.sum()
        assert longest != sorted(longest)
    assert any((a != b).any() for a, b in zip(batches, batches[LENGTH_WINDOW:], strict=False))
    np.testing.assert_array_equal(length_grouped_indices(lengths, 4, 70, 7), batches[70])
