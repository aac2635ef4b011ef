"""Wasserstein distances between samples and laws, with error bars."""

from brenier.core.face import names_on_use

__getattr__, __dir__ = names_on_use(__name__)
