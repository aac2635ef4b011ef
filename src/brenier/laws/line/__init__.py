"""Laws on the line, to quadrature accuracy: the law of L_r, and quantile functions."""
