"""Reports: the HTML page, tables and figures that all reports share, and ``report.html`` of a run."""

from graft.report.card import reference_card, render_card, single_figures, tuned_card
from graft.report.run import accepted_label, reference_values, run_table, write_report
from graft.report.tables import format_number

__all__ = [
    "accepted_label",
    "format_number",
    "reference_card",
    "reference_values",
    "render_card",
    "run_table",
    "single_figures",
    "tuned_card",
    "write_report",
]
