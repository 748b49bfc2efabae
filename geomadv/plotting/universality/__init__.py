"""Figures of universal perturbations and of the four categories."""
