"""Work directories as runs leave them, with the outcomes that a test wants."""

import json

import pytest

from stgrpo.config import base
from stgrpo.evaluation.files import write_evaluation
from stgrpo.evaluation.records import Episode


@pytest.fixture
def make_run(tmp_path):
    """`make_run(name, {"grpo_unseen": [True, ...]}, fields, layouts, metrics)`: the folder of a finished run."""

    def make(name, results, fields=None, layouts=None, metrics=(), settings=None):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        config = base()
        config.update_from_flattened_dict(dict(fields or {}))
        (folder / "config.json").write_text(config.to_json())
        for evaluation, successes in results.items():
            places = layouts or [f"small:{i}" for i in range(len(successes))]
            episodes = [
                Episode("burger", layout, success, 10 if success else 4, 15, "" if success else "invalid", 8, ())
                for layout, success in zip(places, successes, strict=True)
            ]
            write_evaluation(folder / "evaluation", evaluation, episodes, settings=settings or {})
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
        return folder

    return make
