"""My data do not fit into memory: what then?

A file that is larger than `max_memory` GiB is used in blocks where it lies: queries go
to the blocks, a few sums come back. `brenier probe huge.npy --about atoms --workers 4`
takes four processes for it, `--scheduler` a Dask cluster. Blocks that provably cannot
matter are not read, which pays where near rows lie near each other.
"""

import numpy as np

import brenier

rng = np.random.default_rng(0)
centres = 3 * rng.normal(size=(40, 32))
rows = np.repeat(centres, 1000, 0) + 0.3 * rng.normal(size=(40_000, 32))
np.save("large.npy", rows.astype(np.float32))  # 5 MB, for once

law = brenier.BlockedEmpirical.of("large.npy", 1000)  # by default of 32 MiB
profile = brenier.probe(
    law, snrs=[0.3, 1, 3], queries=32, about="atoms", progress=False
)
for snr in profile["snr"].values:
    at = profile.sel(snr=snr)
    print(f"r = {snr:3}: E L = {float(at['mean_localization']):.3f}")
share, dropped = profile.attrs["share_read"], profile.attrs["dropped_mass"]
print(
    f"read: {share:.0%} of the blocks; what was not has at most {dropped:.0e} of a mass"
)
