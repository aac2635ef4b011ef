"""Four steps with a flow of mine: does pairing help?

Two flows of the same size, trained for the same time on two moons, one with
independent noise and one with noise paired by an optimal map: the distance of what
they make in one and in four Euler steps.
"""

import torch
from sklearn.datasets import make_moons

import brenier

moons = torch.tensor(
    make_moons(1000, noise=0.05, random_state=0)[0], dtype=torch.float32
)
transport = brenier.SemiDiscrete(moons).fit(0.02, progress=False)
for name, pairs in (("independent", "independent"), ("paired", transport)):
    flow = brenier.train(
        moons,
        name,
        objective="flow",
        pairs=pairs,
        steps=600,
        batch=256,
        width=64,
        progress=False,
    )
    for steps in (1, 4):
        found = brenier.sample(flow, 1000, steps=steps, progress=False)
        distance = brenier.w2(found.points, moons, method="exact")
        print(f"{name:>11}, {steps} Euler steps: W2 to the data {distance.value:.3f}")
