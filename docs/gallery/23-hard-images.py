"""Which of my images are hard?

Along its own few steps, each sample meets noise levels at which more or less is
undecided. The localization that it meets says how far it may be from where exact
sampling would have ended; `check` measures that, too. The figure shows the hardest and
the easiest, and what was undecided in each.
"""

import brenier

found = brenier.difficulty("digits-network", n=96, steps=6, shown=4, progress=False)
print(brenier.summary(found, width=88))
brenier.figures.save_figure(brenier.figures.plot(found), "difficulty.png", dpi=100)
