"""Principal curvatures of the boundaries around a class, and how far to trust them."""
