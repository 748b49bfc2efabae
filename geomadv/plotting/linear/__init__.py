"""Figures of linear boundaries and of the tilt of deep networks."""
