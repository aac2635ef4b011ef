"""Which solver, and how many steps?

One table for a law: each solver with each number of steps, with the levels planned
for just that, against a reference whose own error is known. Heun evaluates twice a
step; cost is in evaluations.
"""

import brenier

compared = brenier.compare(
    "four-gaussians",
    [4, 8, 16],
    solvers=["euler", "heun", "dpmpp-2m", "unipc-2"],
    criteria=["error", "karras"],
    n=1000,
    progress=False,
)
print(brenier.summary(compared, width=100))
brenier.figures.save_figure(brenier.figures.plot(compared), "compared.png", dpi=100)
