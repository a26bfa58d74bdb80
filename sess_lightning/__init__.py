"""See, during training, where an image classifier looks - and measure it."""

from sess_lightning.callback import SESSCallback
from sess_lightning.sess import SESS, SESSResult

__version__ = "0.1.0"

__all__ = ["SESS", "SESSCallback", "SESSResult", "__version__"]
