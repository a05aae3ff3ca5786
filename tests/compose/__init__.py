"""The whole system in containers, where an engine can be had."""
