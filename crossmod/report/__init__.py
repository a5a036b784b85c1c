"""One self-contained HTML page that shows what a run did and how well it worked."""

from crossmod.report.comparison_page import write_comparison
from crossmod.report.content import ReportContent
from crossmod.report.figures import write_figures
from crossmod.report.page import write_report

__all__ = [
    "ReportContent",
    "write_comparison",
    "write_figures",
    "write_report",
]
