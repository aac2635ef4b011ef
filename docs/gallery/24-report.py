"""How do I show all of it to somebody?

One page for any set of results: it opens from disk in any browser, without a network,
and a slider moves along the noise levels. On the command line:
`brenier report profile.nc schedule.json -o report.html --open`.
"""

from pathlib import Path

import brenier

results = {
    "mixture": brenier.probe("four-gaussians", queries=1000, progress=False),
    "plan": brenier.plan("four-gaussians", 8, progress=False),
}
brenier.report(results, title="Four Gaussians").save("report.html")
print(f"report.html, {Path('report.html').stat().st_size / 1e6:.1f} MB")
