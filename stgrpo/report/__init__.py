"""One self-contained HTML page on a run."""

from stgrpo.report.page import build_report

__all__ = ["build_report"]
