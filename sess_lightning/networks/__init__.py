"""Networks by name: torchvision's, timm's, the small one of the quickstart, those of the pointing game."""

from sess_lightning.networks.by_name import SMALL_CNN, Network, build_network, load_network
from sess_lightning.networks.groups import OutputGroups, grouped, read_groups

__all__ = ["SMALL_CNN", "Network", "OutputGroups", "build_network", "grouped", "load_network", "read_groups"]
