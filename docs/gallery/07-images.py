"""A folder of images: what do I get?

A folder of images of one size is data, with a class for each subfolder if there are
any. Images are flattened inside, and what comes back has their shape. On the command
line: `brenier probe faces --figure profile.png`.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import brenier

Path("pictures").mkdir()
for k, image in enumerate(load_digits().images[:600]):
    Image.fromarray(np.uint8(np.minimum(16 * image, 255))).save(f"pictures/{k:04}.png")

data = brenier.load_target("pictures")
low, high = float(data.data.min()), float(data.data.max())
print(f"{len(data)} images of shape {data.event_shape}, pixels from {low} to {high}")
profile = brenier.probe(data, about="atoms", queries=200, progress=False)
found = brenier.bottleneck(profile)
hardest = (
    f"r = {found['snr']:.2f}, m* = {found['m_star']:.2f} +- {found['m_star_se']:.2f}"
)
print(f"exact scores of these 600 images are hardest at {hardest}")
print(f"past r = {found['collapse_snr']:.2f} a noisy image has one plausible origin")
