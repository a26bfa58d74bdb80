"""See, during training, where an image classifier looks - and measure it.

Nothing is imported before it is used: torch and Lightning take seconds, which a program that only asks for the version
or for help should not pay.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sess_lightning.callback import SESSCallback
    from sess_lightning.sess import SESS, SESSResult

__version__ = "0.1.0"

__all__ = ["SESS", "SESSCallback", "SESSResult", "__version__"]

_HOMES = {"SESS": "sess", "SESSCallback": "callback", "SESSResult": "sess"}
_FOLDERS = ("benchmark", "callback", "cli", "data", "metrics", "networks", "render", "saliency", "sess", "viewer")


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in _FOLDERS:  # `import sess_lightning` is enough for `sess_lightning.metrics`
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_FOLDERS})
