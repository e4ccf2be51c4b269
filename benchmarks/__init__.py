"""Side-by-side measurements of waveedge and its peers: ``python -m benchmarks --help``."""
