"""The command line, the servers it brings along, and the view of the running pipeline."""
