"""How good samples are, how far from the data's modes, and how much of them is copied."""

from brenier.core.face import names_on_use

__getattr__, __dir__ = names_on_use(__name__)
