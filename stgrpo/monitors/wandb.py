"""Weights & Biases, at once or from files that are sent later."""

import secrets
from collections.abc import Mapping
from typing import Literal

from stgrpo.console import say
from stgrpo.files import from_json, to_json, write_atomically
from stgrpo.monitors.base import RunInfo, table_rows

Mode = Literal["online", "offline"]


class WeightsAndBiases:
    """A `MetricWriter` to one W&B run a stage, all of them in one group.

    A stage that goes on takes the same W&B run. Points cannot be taken back there, and a resumed run repeats its steps
    to the last bit: so those which were sent before are not sent again. The id and the last step are kept in
    wandb/STAGE.json of the work directory.
    """

    def __init__(self, project: str, name: str, mode: Mode):
        """Sends nothing yet.

        Args:
            project: W&B project that the runs belong to.
            name: of the group of a run's stages; empty for the work directory's.
            mode: "online", or "offline": files in the work directory that `wandb sync` sends.
        """
        self._project, self._name, self._mode = project, name, mode

    def start(self, run: RunInfo) -> None:
        """Begins a W&B run, or takes up the one of this stage."""
        import wandb

        self._make_table = wandb.Table
        self._file = run.folder / "wandb" / f"{run.stage}.json"
        self._id, self._sent = secrets.token_hex(4), run.step
        if run.step > 0 and self._file.is_file():
            kept = from_json(self._file.read_text(encoding="utf-8"))
            self._id, self._sent = kept["id"], kept["step"]
        group = self._name or run.folder.name
        self._run = wandb.init(
            project=self._project,
            group=group,
            name=f"{group} {run.stage}",
            job_type=run.stage,
            id=self._id,
            resume="allow" if self._mode == "online" else None,  # offline, W&B has nothing that it could look up
            mode=self._mode,
            dir=run.folder,
            config={**run.config, "environment": dict(run.environment)},
            settings=wandb.Settings(silent=True, console="off", save_code=False),
        )
        say(f"{run.stage}: wandb: {self._run.url if self._mode == 'online' else self._run.dir}")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Logs a step, unless it was sent before the stage was cut off."""
        if step <= self._sent:
            return
        self._run.log(dict(values), step=step, commit=True)
        self._sent = step
        write_atomically(self._file, to_json({"id": self._id, "step": step}) + "\n")

    def table(self, step: int, name: str, columns: Mapping[str, object]) -> None:
        """Logs a table with the step."""
        if step > self._sent:
            rows = [list(row) for row in table_rows(columns)]
            self._run.log({name: self._make_table(columns=list(columns), data=rows)}, step=step, commit=False)

    def close(self) -> None:
        """Sends what is left."""
        self._run.finish()
