"""The latest iterates of a flow: what averages are made of."""

from brenier.transport.mongeampere.flow import Iterate
from brenier.transport.mongeampere.potentials import ConvexNetwork, Potential

KEPT = 200  # iterates, at most


class Trail:
    """Iterates, on the common scale of the laws; of long runs every second, fourth, ...

    Attributes:
        potentials: the iterates.
        etas: the steps that each stands for.
    """

    def __init__(self) -> None:
        self.potentials: list[Potential] = []
        self.etas: list[float] = []

    def add(self, step: Iterate) -> None:
        """Take in an iterate."""
        self.potentials.append(step.potential)
        self.etas.append(step.eta)
        if len(self.etas) > KEPT:
            pairs = zip(self.etas[::2], self.etas[1::2], strict=False)
            self.potentials, self.etas = self.potentials[1::2], [first + second for first, second in pairs]

    def mean(self) -> ConvexNetwork | None:
        """The network with the mean parameters of the last half of them; None where some are no networks, or none."""
        late = len(self.etas) // 2
        networks = [potential for potential in self.potentials[late:] if isinstance(potential, ConvexNetwork)]
        whole = 0 < len(networks) == len(self.etas) - late
        return ConvexNetwork.mean(networks, self.etas[late:]) if whole else None
