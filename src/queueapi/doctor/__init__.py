"""The doctor: checks what must always hold of the database and the clusters, and mends it."""
