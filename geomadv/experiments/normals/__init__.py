"""The normal matrix: its spectrum, and what random vectors of its leading span fool."""
