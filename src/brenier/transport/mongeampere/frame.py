"""The common scale on which a flow works: laws are shifted and scaled on the way in, potentials on the way out."""

from brenier.transport.mongeampere.marginal import Marginal, centre_and_unit, standard_normal, standardised, whitened
from brenier.transport.mongeampere.potentials import Framed, Potential, Standardised
from brenier.transport.mongeampere.whitening import Whitening


class Frame:
    """How two laws are standardised.

    Args:
        reference, target: the laws.
        standardise: whether to shift and scale each to mean 0 and mean variance 1, where its moments are known.
        whitening: S, of which the reference is the image of N(0, I), to whiten both by instead.
    """

    def __init__(
        self,
        reference: Marginal,
        target: Marginal,
        standardise: bool,
        whitening: Whitening | None,
    ) -> None:
        self._reference, self._target, self._standardise, self._whitening = reference, target, standardise, whitening
        self._centre, self._unit = centre_and_unit(reference, standardise)
        self._target_centre, self.target_unit = centre_and_unit(target, standardise)

    def laws(self) -> tuple[Marginal, Marginal]:
        """The laws on the common scale."""
        if self._whitening is not None:
            return standard_normal(self._reference.dim), whitened(self._target, self._whitening)
        return (
            standardised(self._reference, self._centre, self._unit),
            standardised(self._target, self._target_centre, self.target_unit),
        )

    def outward(self, inner: Potential) -> Potential:
        """The potential between the laws as they are, of one between those."""
        if self._whitening is not None:
            return Framed(inner, self._whitening)
        if not self._standardise:
            return inner
        return Standardised(inner, self._centre, self._unit, self._target_centre, self.target_unit)


def inward(potential: Potential) -> Potential:
    """The potential on the common scale."""
    return potential.inner if isinstance(potential, Standardised | Framed) else potential
