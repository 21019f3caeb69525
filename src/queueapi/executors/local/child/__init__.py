"""Programs that run beside the server: the fork server, and a supervisor per job.

They are started without site-packages and import the standard library's small
parts only: every job holds a copy-on-write copy of this heap.
"""
