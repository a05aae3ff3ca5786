"""The commands, a file for each kind of thing one does with the pipeline."""
