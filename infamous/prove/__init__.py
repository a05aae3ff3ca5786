"""The proof: real processes on servers of its own, faults on purpose, and an account that must balance."""
