"""Wasserstein distances between samples and laws, with error bars."""

from brenier.core.face import names_on_use

__getattr__, __dir__, __all__ = names_on_use(__name__)  # pyright: ignore[reportUnsupportedDunderAll]
