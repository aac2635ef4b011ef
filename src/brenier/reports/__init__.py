"""What was computed, in tables and sentences. Nothing here computes."""
