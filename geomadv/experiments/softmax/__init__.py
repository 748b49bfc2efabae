"""Adversarial directions of the last layer."""
