"""Export-data: the single-turn problems of a work directory for trainers of others, and the reward beside them."""

import importlib.util
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from stgrpo.console import say
from stgrpo.data.records import Trajectory, stream_trajectories
from stgrpo.data.rows import Row, RowSettings, problem_rows
from stgrpo.data.tokenizer import Tokenizer
from stgrpo.errors import UserError
from stgrpo.files import is_leftover, remove, replacing, to_json, write_atomically
from stgrpo.react import reward
from stgrpo.react.reward import RewardWeights
from stgrpo.training.inputs import prompt_style
from stgrpo.workdir import WorkDir

if TYPE_CHECKING:
    import pyarrow

_ROWS = 1024  # of a row group: what is held in memory at a time
SPLITS = ("train", "validation")


def export_data(workdir: WorkDir, file_format: str) -> None:
    """Writes export/{train,validation}.FORMAT and export/reward.py; the same data give the same bytes.

    Args:
        workdir: of a run that has collected; it is only read but for the folder export, and may be at work.
        file_format: "parquet" or "jsonl".

    Raises:
        UserError: nothing was collected, it does not go with the config, or pyarrow is missing.
        RunError: the disk does not take the files.
    """
    config = workdir.config()
    if file_format == "parquet" and importlib.util.find_spec("pyarrow") is None:
        raise UserError('--format=parquet needs pyarrow: pip install "stgrpo[parquet]", or give --format=jsonl')
    _check_places(workdir, file_format)
    tokenizer = _tokenizer(workdir)
    for path in workdir.export.iterdir() if workdir.export.is_dir() else ():
        if is_leftover(path):
            remove(path)
    for split in SPLITS:
        _export_split(config, workdir, tokenizer, workdir.export / f"{split}.{file_format}")
    write_atomically(workdir.export / "reward.py", Path(reward.__file__).read_text(encoding="utf-8"))
    say(f"export-data: their reward is {workdir.export / 'reward.py'}, their tokenizer is in {workdir.tokenizer}")


def _check_places(workdir: WorkDir, file_format: str) -> None:
    """Raises a UserError where something of another kind has the name of what will be written."""
    if workdir.export.exists() and not workdir.export.is_dir():
        raise UserError(f"{workdir.export} is a file: move it away, a folder of this name is written")
    for name in (*(f"{split}.{file_format}" for split in SPLITS), "reward.py"):
        if (workdir.export / name).is_dir():
            raise UserError(f"{workdir.export / name} is a folder: move it away, a file of this name is written")


def _tokenizer(workdir: WorkDir) -> Tokenizer:
    if not workdir.tokenizer.is_dir():
        raise UserError(f"{workdir.tokenizer} does not exist: run `stgrpo collect` with this work directory first")
    return Tokenizer.load(workdir.tokenizer)


def _export_split(config: ConfigDict, workdir: WorkDir, tokenizer: Tokenizer, path: Path) -> None:
    c, split = config.reward, path.stem
    settings = RowSettings(config.env.name, split, prompt_style(config), c.target, RewardWeights(c.format, c.action))
    files = [workdir.data(task, split) for task in config.env.tasks]
    trajectories = itertools.chain.from_iterable(stream_trajectories(file) for file in files)
    counts = _Counts()
    rows = counts.counted(problem_rows(_judged(trajectories, c.target), tokenizer, settings))
    _WRITERS[path.suffix](path, rows)
    say(f"export-data: {counts.rows} problems in {path}{counts.said_of_planner()}")


def _judged(trajectories: Iterable[Trajectory], target: str) -> Iterator[Trajectory]:
    """The same, unless what is rewarded is not known.

    Raises:
        UserError: the optimal actions or distances are rewarded, and no planner has said which those are.
    """
    for trajectory in trajectories:
        if not all(step.can_be_rewarded(target) for step in trajectory.steps):
            raise UserError(
                f"reward.target={target!r} needs a planner, and {trajectory.task} {trajectory.layout} has none: "
                "set --config.reward.target=expert in another --workdir"
            )
        yield trajectory


class _Counts:
    """Counts rows on their way to a file: all, and those that no planner has judged."""

    def __init__(self) -> None:
        self.rows = self.unjudged = 0

    def counted(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The same rows."""
        for row in rows:
            self.rows += 1
            self.unjudged += row["distance"] is None
            yield row

    def said_of_planner(self) -> str:
        """What a reader must know of `optimal_actions` and `distance`; "" where every row has them."""
        if not self.unjudged:
            return ""
        return f"; {self.unjudged} of them without optimal_actions and distance (null): no planner has judged them"


def _write_jsonl(path: Path, rows: Iterable[Row]) -> None:
    with replacing(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        file.writelines(to_json(row, ensure_ascii=False) + "\n" for row in rows)


def _write_parquet(path: Path, rows: Iterable[Row]) -> None:
    import pyarrow
    from pyarrow import parquet

    schema, rows = _schema(), iter(rows)
    with replacing(path) as unfinished, parquet.ParquetWriter(unfinished, schema) as writer:
        while part := list(itertools.islice(rows, _ROWS)):
            writer.write_table(pyarrow.Table.from_pylist(part, schema=schema))


def _schema() -> "pyarrow.Schema":
    """The columns of a parquet file, in the order of a row."""
    import pyarrow

    text, number = pyarrow.string(), pyarrow.int64()
    texts, struct = pyarrow.list_(text), pyarrow.struct
    return pyarrow.schema(
        [
            ("messages", pyarrow.list_(struct([("role", text), ("content", text)]))),
            ("prompt", text),
            ("response", text),
            ("valid_actions", texts),
            ("expert_action", text),
            ("optimal_actions", texts),
            ("distance", number),
            ("task", text),
            ("layout", text),
            ("step", number),
            ("split", text),
            ("data_source", text),
            ("ability", text),
            ("reward_model", struct([("style", text), ("ground_truth", text)])),
            ("extra_info", struct([("split", text), ("index", number)])),
        ]
    )


_WRITERS: dict[str, Callable[[Path, Iterable[Row]], None]] = {".parquet": _write_parquet, ".jsonl": _write_jsonl}
