"""Which noise belongs to which datum?

The optimal map from the normal law to N points: every noise goes to the point whose
cell it is in, and all cells have the mass 1/N. It is fitted once, and then costs a
matrix product.
"""

import torch

import brenier

angle = torch.linspace(0, 6.283, 41, dtype=torch.float64)[:-1]
points = torch.stack(
    [
        angle.cos() * (1 + 0.4 * (3 * angle).cos()),
        angle.sin() * (1 + 0.4 * (3 * angle).cos()),
    ],
    1,
)
transport = brenier.SemiDiscrete(points).fit(0.01, progress=False)
noise = torch.randn(
    5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
)
print("noise goes to the points", transport.cells(noise).tolist())
error = transport.marginal_error()
excess = f"{error.excess:.4f} +- {error.excess_se:.4f}"
print(f"cells are off by a total variation of {excess} beyond sampling noise")
brenier.figures.save_figure(brenier.figures.plot(transport), "map.png", dpi=100)
