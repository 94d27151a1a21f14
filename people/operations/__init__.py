"""Acts on people: registration, second factor, staff roles."""
