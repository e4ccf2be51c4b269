"""Fewer channels by waveedge beside torch-pruning, at equal quality."""
