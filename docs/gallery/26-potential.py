"""Is it the noise or the drift that makes denoising expand?

The Langevin process of a potential f is taken back by its optimal maps. Where f is
flat (logcosh) the drift does not pull apart on the way back what it pulled together;
where it is steep (quartic) it does, and no bound on f'' exists. JKO steps are undone
exactly by the same maps (Proposition 1 of [LDK24]), the flow to first order.
"""

import brenier

law, start = "four-gaussians", 0
for potential in ("quadratic(1)", "logcosh", "quartic"):
    for forward in ("flow", "jko"):
        found = brenier.chain(
            law,
            start,
            potential=potential,
            forward=forward,
            steps=10,
            eta=0.05,
            progress=False,
        )
        slowest = float(found["contraction"].min())
        fastest = float(found["rate"].max())
        alone = float(found["w2_discretisation"][0])
        low, high = found.attrs["convexity"]
        print(
            f"{potential:12} {forward:4} there: >= {slowest:.2f} (lambda {low:g}); "
            f"back: <= {fastest:5.2f} (kappa {high:g}); steps alone: {alone:.0e}"
        )
brenier.figures.save_figure(brenier.figures.plot(found), "chain.png", dpi=100)
