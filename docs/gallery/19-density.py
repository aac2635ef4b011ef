"""I have a density and no samples: can I sample it?

A Python file with `dim` and `log_density`, up to a constant, is a target of the
Monge-Ampère flow, which finds a map from the normal law to it: samples, an inverse
and a density come with it. In two dimensions `grid` solves the equation itself;
`neural` is for more. On the command line: `brenier flow banana.py -o banana.nc
--method grid --figure flow.png`.
"""

from pathlib import Path

import brenier

Path("banana.py").write_text("""
dim = 2

def log_density(x):
    return -x[:, 0] ** 2 / 2 - 2 * (x[:, 1] - x[:, 0] ** 2 / 2 + 0.5) ** 2
""")
flow = brenier.MongeAmpere("normal", "banana.py", method="grid").fit(progress=False)
points = flow.sample(5000)
print("variances", points.var(0).tolist(), "where 1 and 0.75 are right")
back = flow.inverse(points[:5])
error = (flow.map(back) - points[:5]).abs().max()
print(f"largest error of the way back and there: {float(error):.1e}")
brenier.figures.save_figure(brenier.figures.plot(flow), "flow.png", dpi=100)
