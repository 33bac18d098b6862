"""One self-contained report of a study: what was asked, what was done, what was found, and what that cannot say."""

from neuromod_core.report.data import ReportData
from neuromod_core.report.page import figures, render, write_png
from neuromod_core.report.study import Study

__all__ = ["ReportData", "Study", "figures", "render", "write_png"]
