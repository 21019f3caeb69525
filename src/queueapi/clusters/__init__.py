"""The nodes of clusters: what operators want of them, and for whom they are reserved."""
