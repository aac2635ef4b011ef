"""Laws in a few dimensions, and in more, by their densities: cubature, and importance weights."""
