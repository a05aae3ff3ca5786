"""The report: all notebooks of a few days on one page."""
