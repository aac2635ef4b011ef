"""Denoising score matching: a network trained on data or a law, resumable."""
