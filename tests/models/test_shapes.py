"""The published shapes have as many parameters as their publishers count."""

import pytest

from stgrpo.models.shapes import named_shapes

PUBLISHED = {
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "llama3-8b": 8_030_261_248,
    "llama3.1-8b": 8_030_261_248,
    "llama3.2-1b": 1_235_814_400,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_as_many_as_published(name: str) -> None:
    assert named_shapes()[name].parameter_count() == PUBLISHED[name]


def test_llama_3_has_positions_as_it_was_trained_with() -> None:
    older, newer = named_shapes()["llama3-8b"], named_shapes()["llama3.1-8b"]
    assert older.rope_scaling is None and older.max_position == 8192
    assert newer.rope_scaling is not None and newer.max_position == 131_072
