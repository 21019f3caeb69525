"""`queueapi demo`: a real pipeline, by two groups that compete for this machine."""
