"""SESS itself: Algorithm 1, its windows, patches and fusion, and its result."""

from sess_lightning.sess.algorithm import SESS
from sess_lightning.sess.result import SESSResult

__all__ = ["SESS", "SESSResult"]
