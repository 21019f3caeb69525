"""Traces of real clusters, replayed by the scheduler that the service itself runs."""
