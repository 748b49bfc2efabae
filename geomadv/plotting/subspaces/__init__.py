"""Figures of accuracy, norms and confined attacks on subspaces."""
