"""Rows of data in blocks, wherever they lie - memory, disk, a Dask cluster - and sums over them that merge."""
