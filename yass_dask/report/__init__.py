"""A report of a finished sort: one HTML page that needs nothing else."""

from yass_dask.report.page import html_report, write_report

__all__ = ["html_report", "write_report"]
