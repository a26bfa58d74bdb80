"""Why saliency maps are constant: the cause that can be found, and the argument to change."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sess_lightning.pixels import minmax, resize
from sess_lightning.probing import probe
from sess_lightning.saliency.base import explain
from sess_lightning.saliency.target_layer import read_layer
from sess_lightning.sess.algorithm import SESS


def why_constant(sess: SESS, model: nn.Module, images: Sequence[Tensor], targets: Tensor) -> str:
    """Say why the maps of these images are constant.

    Explains the whole images once more by the base method.

    Args:
        sess: that gave the maps.
        model: any classifier.
        images: `(C, H, W)` each, on the model's device; one is enough.
        targets: `(B,)` long, the classes that were explained.

    Returns:
        One sentence with the cause, and one with the way out.
    """
    window = sess.window_for(images)
    squashed = torch.cat([resize(image[None], window) for image in images])
    with probe(model):
        logits = sess.whole_image_logits(model, images, window)
        if not torch.isfinite(logits).all():
            return "The model's logits are not finite. Check its weights: a loss that is NaN makes them so."
        maps = explain(sess.method, model, squashed, targets).maps
        if minmax(maps)[1].any():
            return (
                "The base method's map of the whole image is valid, those of the patches cancel out. Try fewer scales."
            )
        return _why_base_is(sess, model, squashed, targets)


def _why_base_is(sess: SESS, model: nn.Module, squashed: Tensor, targets: Tensor) -> str:
    reading = read_layer(sess.method, model, squashed, targets)
    if reading is None:
        return (
            f"The base method {sess.method!r} gives the same value at every pixel of the whole image: it finds no "
            "influence of the pixels on the class. Pass another method to SESS, e.g. SESS('gradcam')."
        )
    where = f"the layer {sess.method.resolved_layer!r}"  # type: ignore[attr-defined]
    another = "Pass target_layer= to choose another layer."
    if not reading.gradient.any():
        zero = [name for name, p in model.named_parameters() if p.ndim > 1 and not p.any()]
        if zero:
            return (
                f"No gradient of the class reaches {where}, as the weights {zero[-1]!r} are all zero: the network "
                "has not been trained yet. Maps will appear after the first steps of training."
            )
        return f"No gradient of the class reaches {where}: at this input the class does not depend on it. {another}"
    if not minmax(reading.activation.flatten(0, 1))[1].any():
        return f"The output of {where} is the same at all positions. {another}"
    weighted = (reading.gradient.mean((2, 3), keepdim=True) * reading.activation).sum(1)
    if not (weighted > 0).any():
        return (
            f"The weighted sum of the channels of {where} is negative everywhere, and ReLU cuts what is below 0: "
            f"all of it speaks against the class. Explain another class, e.g. target='predicted'. {another}"
        )
    return f"The base method {sess.method!r} makes a constant map of {where}. {another}"
