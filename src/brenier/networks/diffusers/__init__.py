"""Networks, schedulers and timesteps of diffusers, read in our terms and written in theirs."""
