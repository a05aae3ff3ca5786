"""The bench: a bare machine flows in; how fast the pipeline is, and how near to its limits, flows out."""
