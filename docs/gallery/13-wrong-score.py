"""My score is a little wrong: what does the chain make of it?

An error of the score of 10% is put into one band of noise levels at a time. How much
of it is left at the end depends on how many steps there are in the band, and on what
the rest of the way back makes of differences: where L exceeds 1, they can grow. The
figure is of an error in the middle band.
"""

import brenier

law = "two-points"
print("W2 between what a chain ends at with an error of the score and without, by band")
for name, band in (
    ("noisy part", (0.02, 0.5)),
    ("middle", (0.5, 2.0)),
    ("clean part", (2.0, 7.0)),
):
    found = brenier.chain(
        law,
        "equilibrium",
        steps=200,
        eta=0.02,
        score_error=0.1,
        error_band=band,
        progress=False,
    )
    steps = int(((found["snr"] > band[0]) & (found["snr"] < band[1])).sum())
    end = float(found["w2_error"][0])
    print(f"{name}, SNR {band}: {end:.3f} by {steps} steps, {end / steps:.4f} each")
    if name == "middle":
        page = brenier.figures.plot(found)
        brenier.figures.save_figure(page, "chain.png", dpi=100)
