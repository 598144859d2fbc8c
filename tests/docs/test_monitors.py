"""The monitor that the docs show is one."""

import pathlib
import re

from stgrpo.config import base
from stgrpo.monitors.open import open_monitor
from stgrpo.workdir import WorkDir

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "monitors.md"


def test_the_example_is_driven(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.S)
    (tmp_path / "my_monitor.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    config = base()
    config.monitor.writers = ("my_monitor:Printer",)
    with open_monitor(config, WorkDir(tmp_path / "w"), "sft", 0) as monitor:
        monitor.table(1, "samples", {"task": "burger"})
        monitor.write(1, {"loss": 0.25})
    assert capsys.readouterr().out == "sft 1 0.25\n"
    assert '"monitor_errors"' not in (tmp_path / "w" / "metrics.jsonl").read_text()
