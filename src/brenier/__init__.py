"""brenier: probe, plan and sample diffusion models with optimal transport.

Public names and where they live are in `__init__.pyi`; each is loaded when it is used.
"""

from brenier.core.face import names_on_use

__getattr__, __dir__ = names_on_use(__name__)
