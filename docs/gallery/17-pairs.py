"""I train by flow matching: how do I get paired noise?

`record` keeps a seed and a number for each pair, so that a million take two
megabytes, and `RecordedPairs` is an iterable for a DataLoader. Each batch is noise
and the numbers of its data.
"""

import brenier

data = brenier.load_target("digits").data
transport = brenier.SemiDiscrete(data).fit(0.05, progress=False)
transport.record(100_000, seed=0, progress=False).save("pairs.npz")

pairs = brenier.RecordedPairs("pairs.npz", batch=256)
noise, index = next(iter(pairs))
print(f"noise {tuple(noise.shape)}, numbers of data {tuple(index.shape)}")
independent = (noise - data[index.roll(1)]).pow(2).sum(1).mean()
paired = (noise - data[index]).pow(2).sum(1).mean()
print("mean squared distance of noise and datum:")
print(f"{paired:.1f} for pairs, {independent:.1f} for independent ones")
