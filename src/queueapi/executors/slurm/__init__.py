"""The adapter to Slurm.

What is asked of Slurm and how its answers read is pure: each module builds the argv of one
program and parses its text. How a command reaches the cluster is not known here. Text with an
explicit format is the same from 22.05 to 24.11 at least; JSON is not.
"""
