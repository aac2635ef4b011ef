"""What every room leans on: reading, writing, checks, long work, linear algebra. Nothing here knows of a law."""
