"""Eight steps for my network: where should they go?

A plan for this network, this solver and this number of steps, against the noise
levels that people take by hand. The last column is measured on noises that no plan
has seen. A pipeline of diffusers takes the plan by `schedule.install(pipeline)`.
"""

import brenier

schedule = brenier.plan(
    "digits-network", 8, solver="dpmpp-2m", pilots=64, progress=False
)
print("sigmas:", " ".join(f"{sigma:.3g}" for sigma in schedule.sigmas))
print(f"predicted RMS error of an end point: {schedule.end_error:.3f}")
print()
compared = brenier.compare(
    "digits-network",
    [8],
    solvers=["dpmpp-2m"],
    criteria=["error", "karras", "log-snr", "cosine"],
    pilots=64,
    n=256,
    progress=False,
)
for name in compared["criterion"].values:
    cell = compared.sel(criterion=name, steps=8, solver="dpmpp-2m")
    print(
        f"{name:>8}: RMS error {float(cell['rms']):.3f} +- {float(cell['rms_se']):.3f}"
    )
brenier.figures.save_figure(brenier.figures.plot(schedule), "schedule.png", dpi=100)
