"""My sampler takes sigmas: how do I hand it a plan?

A schedule is a list of noise levels. k-diffusion takes them as a tensor that ends at
0, ComfyUI as text, diffusers' schedulers as `sigmas=`; and `brenier.scales` knows the
other parametrisations.
"""

import torch

import brenier
from brenier import scales

schedule = brenier.plan("four-gaussians", 6, progress=False)
print("for k-diffusion:", torch.tensor(schedule.sigmas))
print("for ComfyUI:", ", ".join(f"{sigma:.4f}" for sigma in schedule.sigmas))
print("as SNR:", [round(1 / sigma, 3) for sigma in schedule.sigmas if sigma > 0])
print(
    "as times of Ornstein-Uhlenbeck:",
    scales.time_from_snr(1 / torch.tensor(schedule.sigmas[:-1]).numpy())
    .round(4)
    .tolist(),
)
schedule.to_json("schedule.json")  # what `brenier sample --schedule` takes
