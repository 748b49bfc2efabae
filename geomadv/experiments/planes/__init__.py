"""Experiments in planes through image space."""
