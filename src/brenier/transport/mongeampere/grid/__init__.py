"""The parabolic Monge-Ampère equation on a grid, on the line and in the plane."""
