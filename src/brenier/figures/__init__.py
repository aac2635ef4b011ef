"""Figures of what brenier computes, drawn with matplotlib.

`plot` draws any result. `plot_profile`, `plot_chain` and the like draw one kind on a page of panels; every panel is a
function of its own that takes the same result and an optional `ax`, and returns the axes. `plot_profiles` lays several
profiles over each other. `save_figure` writes a page to a file.
Nothing here shows a window, touches pyplot or changes matplotlib's settings: what comes back is yours to alter or save.
matplotlib is loaded when something is drawn.
"""

from brenier.core.face import names_on_use

__getattr__, __dir__ = names_on_use(__name__)
