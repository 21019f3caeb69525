"""Folders that people upload for their jobs: taken in safely, kept by content, removed in time."""
