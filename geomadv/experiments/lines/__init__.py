"""Scores and labels along single directions."""
