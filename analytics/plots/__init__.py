"""Plots: typed frames flow in, matplotlib axes flow out, with a title that says what was found."""
