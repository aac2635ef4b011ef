"""Are my samples good, or are they copies?

Quality is worth little without copying beside it: data with a little noise have
perfect scores. Both are compared with what digits that were held out would get.
"""

import torch
from sklearn.datasets import load_digits

import brenier

images = torch.tensor(load_digits().data / 8 - 1, dtype=torch.float32)
train, held = images[:1200], images[1200:]
copies = train[:500] + 0.02 * torch.randn(
    500, 64, generator=torch.Generator().manual_seed(0)
)
fresh = brenier.sample(
    "digits-network", 500, steps=8, solver="dpmpp-2m", progress=False
).points
for name, samples in (
    ("copies with a little noise", copies),
    ("a network's samples", fresh),
):
    found = brenier.evaluate(samples, held, train=train, progress=False)
    shown = found.sel(
        metric=[
            m
            for m in ("w2", "precision", "recall", "copied", "closer")
            if m in found["metric"].values
        ]
    )
    print(name)
    for metric in shown["metric"].values:
        row = shown.sel(metric=metric)
        found, perfect = float(row["value"]), float(row["control"])
        print(f"  {metric:>9}: {found:.3f}, of a perfect sampler {perfect:.3f}")
