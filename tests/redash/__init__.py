"""A fake Redash that answers as the recorded one did, and the tests that prove it."""
