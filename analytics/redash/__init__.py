"""Redash: files of queries and dashboards flow in, a Redash that holds just these flows out; and back."""
