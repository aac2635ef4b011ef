"""Networks trained on data or a law, to denoise or as flows, resumable."""
