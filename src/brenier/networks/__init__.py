"""Trained networks as laws: their conventions, their Jacobians, and where they are stored."""

from brenier.networks.network import NetworkTarget

__all__ = ["NetworkTarget"]
