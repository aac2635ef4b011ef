"""A CSV of mine: where is it hard to denoise?

Columns are coordinates, rows are points; `--columns`, `--drop` and `--standardize`
choose and scale, and `brenier.Reading` does so from Python. Asked about is the law
that the rows were drawn from, in brackets, and up to the SNR where these are narrow.
On the command line: `brenier probe wine.csv --drop grade --standardize --figure
profile.png`.
"""

import pandas as pd
from sklearn.datasets import load_wine

import brenier

wine = load_wine(as_frame=True)
pd.concat([wine.data, wine.target.rename("grade")], axis=1).to_csv(
    "wine.csv", index=False
)

data = brenier.load_target(
    "wine.csv", reading=brenier.Reading(drop=["grade"], standardize=True)
)
profile = brenier.probe(data, queries=500, progress=False)
print(brenier.summary(profile, width=100))
brenier.figures.save_figure(brenier.figures.plot(profile), "profile.png", dpi=100)
