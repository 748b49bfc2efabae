"""Networks: the zoo, loading from anywhere, training."""

from geomadv.networks.accuracy import accuracy
from geomadv.networks.loading import load_network
from geomadv.networks.spec import NetworkSpec, Recipe
from geomadv.networks.training import train
from geomadv.networks.wrapped import wrap
from geomadv.networks.zoo import ZOO, list_networks, network_cards

__all__ = [
    "ZOO",
    "NetworkSpec",
    "Recipe",
    "accuracy",
    "list_networks",
    "load_network",
    "network_cards",
    "train",
    "wrap",
]
