"""Report: one self-contained HTML page of what the work directory holds."""

from ml_collections import ConfigDict

from stgrpo.console import say
from stgrpo.report import build_report
from stgrpo.workdir import WorkDir


def run_report(config: ConfigDict, workdir: WorkDir) -> None:
    """Writes report.html, always anew: it takes a second."""
    say(f"report: open {build_report(workdir.path)}")
