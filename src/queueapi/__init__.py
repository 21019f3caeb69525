"""queueapi: a REST service that runs a research group's jobs fairly on whatever they have."""

__version__ = "0.1.0"
