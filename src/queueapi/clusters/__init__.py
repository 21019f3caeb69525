"""The nodes of clusters: what operators want of them."""
