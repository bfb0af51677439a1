"""The report of a study: an HTML page, its plots, and the table for a terminal."""

from pyhbt.study.report.page import write_report
from pyhbt.study.report.quality import summary_table
from pyhbt.study.report.tables import SummaryTable

__all__ = ["SummaryTable", "summary_table", "write_report"]
