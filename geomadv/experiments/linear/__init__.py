"""Linear boundaries, their tilt, and the tilt of deep boundaries beside them."""
