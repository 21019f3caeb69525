"""Programs that run beside the server: the fork server, and a supervisor per running job.

They are started without site-packages and import the standard library's small
parts only: every supervisor holds a copy-on-write copy of this heap. What a launch
costs is mostly page faults on it, hence the reuse of supervisors (``worker``) and
the few steps between fork and exec (``enter``).
"""
