"""The same truths computed another way: for `reproduce`, tests and benchmarks; nothing else leans on them."""
