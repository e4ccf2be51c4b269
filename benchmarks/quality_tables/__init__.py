"""How good compressed networks are: what the typed line gives, the paper's table, redundancy."""
