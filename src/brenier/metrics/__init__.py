"""How good samples are, how far from the data's modes, and how much of them is copied."""

from brenier.metrics.digits import load_digits_classifier
from brenier.metrics.distances import frechet_distance, kernel_distance
from brenier.metrics.estimates import Estimate
from brenier.metrics.evaluation import evaluate
from brenier.metrics.memorisation import Memorisation, Nearness, memorisation
from brenier.metrics.modes import class_probabilities, fit_classifier, mode_mixture, stray
from brenier.metrics.neighbours import Neighbourhoods, expected_coverage, precision_recall

__all__ = [
    "Estimate",
    "Memorisation",
    "Nearness",
    "Neighbourhoods",
    "class_probabilities",
    "evaluate",
    "expected_coverage",
    "fit_classifier",
    "frechet_distance",
    "kernel_distance",
    "load_digits_classifier",
    "memorisation",
    "mode_mixture",
    "precision_recall",
    "stray",
]
