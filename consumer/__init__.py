"""The stream flows in, rows of Postgres flow out: batched, validated, stored once, then acknowledged."""
