"""The peers: events flow in, rows of the same table flow out, by other people's means.

These run in an environment of their own (bench/requirements-peers.txt) and import nothing of the project but
each other. Each is written as its library's own documentation would have it.
"""
