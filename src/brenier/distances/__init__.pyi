from brenier.distances.distance import Distance as Distance
from brenier.distances.wasserstein import debiased_w2 as debiased_w2
from brenier.distances.wasserstein import exact_w2 as exact_w2
from brenier.distances.wasserstein import gelbrich as gelbrich
from brenier.distances.wasserstein import sinkhorn_divergence as sinkhorn_divergence
from brenier.distances.wasserstein import sliced_w2 as sliced_w2
from brenier.distances.wasserstein import sorted_w2 as sorted_w2
from brenier.distances.wasserstein import w2 as w2
