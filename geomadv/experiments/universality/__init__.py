"""Perturbations that fool many images, and those that fool one."""
