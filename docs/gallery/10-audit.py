"""Which noise levels does my pipeline really visit?

What a scheduler is asked for and what it does are two things: rounding to a table, a
shift that is applied twice, a last step that ends above 0. `brenier audit FOLDER`
reads a saved pipeline; here two schedulers that are often used for one another.
"""

from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

import brenier

for scheduler in (DDIMScheduler(), DPMSolverMultistepScheduler(use_karras_sigmas=True)):
    print(brenier.summary(brenier.audit(scheduler, steps=5), width=100))
