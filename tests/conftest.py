"""For every test: shapes and types checked at run time, one thread, and properties searched repeatably."""

import beartype.typing  # noqa: F401 - the expression below is evaluated with beartype in sight
import torch
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

# The hook decorates methods one by one, and beartype knows `Self` only in classes that it decorates whole: `Self` is
# left unchecked, everything else is checked. As for type checkers, an int will do for a float, and both for a complex.
CHECKER = (
    "beartype.beartype(conf=beartype.BeartypeConf("
    "is_pep484_tower=True, hint_overrides=beartype.FrozenDict({beartype.typing.Self: object})))"
)

# Before anything imports brenier: the hook wraps modules as they are loaded.
install_import_hook("brenier", CHECKER)

torch.set_num_threads(1)

# The same examples on every machine, and no verdict that depends on how fast the machine is.
settings.register_profile(
    "brenier", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("brenier")
