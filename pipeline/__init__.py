"""What two processes must agree on, and nothing else: the event, the stream, the tables, the settings."""
