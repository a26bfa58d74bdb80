"""`sess-lightning explain`: where a network looks in photos, from the shell."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF
from tqdm import tqdm

from sess_lightning.checks import check_count, chosen_device
from sess_lightning.class_names import ClassNames, chosen_class, class_name, read_class_names
from sess_lightning.cli.console import escaped, one_line, refused, say
from sess_lightning.cli.photo_files import PhotoTask, plan
from sess_lightning.data.reading import NoPhotoError, Photo, read_photo
from sess_lightning.jobs.networks import try_method
from sess_lightning.jobs.options import parsed_scales
from sess_lightning.layers import get_layer
from sess_lightning.logits import class_scores
from sess_lightning.networks import Network, grouped, load_network, read_groups
from sess_lightning.pixels import resize
from sess_lightning.render.photo_page import PhotoRow, explanation_page
from sess_lightning.render.picture import as_pillow
from sess_lightning.render.text import DOT
from sess_lightning.saliency.registry import resolve_method
from sess_lightning.saliency.target_layer import with_target_layer
from sess_lightning.sess import SESS
from sess_lightning.sess.base_maps import base_maps

ALL_EXPLAINED, SOME_FAILED = 0, 1

_SHOWN = 5


def explain(
    photos: list[str],
    model: str,
    weights: str = "DEFAULT",
    out: str = "explained",
    target: str = "top1",
    classes: str | None = None,
    groups: str | None = None,
    method: str = "gradcam",
    sess: bool = True,
    num_scales: int | None = None,
    scales: str | None = None,
    window: int | None = None,
    ratio: float = 0.0,
    activation: str = "softmax",
    num_classes: int | None = None,
    max_side: int = 2048,
    batch_size: int | None = None,
    device: str = "auto",
    target_layer: str | None = None,
) -> int:
    """Show where a network looks in photos.

    For each photo it prints the top classes of the whole image and writes OUT/NAME.png, a figure of the photo, the map
    of the base method alone, the SESS map and the scores of all patches, and OUT/NAME.npy, the map itself: float32 in
    [0, 1], (H, W) of the photo upright, or (k, H, W) where several classes are explained. A photo that cannot be read
    is named and skipped; a file in a folder that is no picture is left out. Exit code: 0 all photos explained, 1 some
    failed, 2 nothing done as an argument is wrong.

    Args:
        photos: files, folders (searched with their subfolders) and glob patterns.
        model: name of a torchvision classifier or timm model; "timm:NAME" where both have one of that name.
        weights: path of a state_dict or checkpoint; "DEFAULT" downloads those of torchvision or timm.
        out: folder for figures and maps.
        target: the class to explain: "top1", the predicted one; "top3", the best three; an index; or a name.
        classes: file of class names: one a line, or JSON (a list, an object from index to name, COCO categories).
            Networks of 1000 outputs have ImageNet's names without it.
        groups: JSON file from the name of a class to the network's outputs that stand for it, e.g. {"cup": [504, 968]};
            the network then tells these classes apart. Excludes `classes`.
        method: the base method: a name (gradcam, gradient, groupcam, guidedbp, rise) or a dotted path to a callable.
        sess: false shows the base method alone.
        num_scales: scales of the pyramid, 12 if left out.
        scales: the short sides in pixels instead, separated by commas, e.g. 352,544,736, or multiples of the window,
            e.g. 1.0,1.5,2.5.
        window: what the network sees at a time, in pixels; the size that the network was trained on if left out.
        ratio: share of the patches that are left out before they are explained, worst scores first; 0.9 saves most of
            the cost of methods other than gradcam.
        activation: "softmax", or "sigmoid" for multi-label networks.
        num_classes: outputs of the network; those of the weights if left out.
        max_side: pixels; larger photos are scaled down to this, which bounds the memory.
        batch_size: patches per forward; the device's default if left out.
        device: "auto" (CUDA where there is one), or a torch device.
        target_layer: dotted name of the layer that the method reads; found by itself if left out.
    """
    try:
        check_count("max_side", max_side)
        check_count("num_classes", num_classes, optional=True)
        jobs = plan(photos, Path(out))
        if groups is not None and classes is not None:
            raise ValueError("Expected only one of `groups`, which names its classes itself, and `classes`.")
        network = load_network(model, weights, num_classes)
        side = network.input_size if window is None else (window, window)
        if groups is not None:
            network = grouped(network, read_groups(groups), side)
        if target_layer is not None:
            get_layer(network.module, target_layer)
        algorithm = SESS(
            with_target_layer(resolve_method(method, activation), target_layer),
            num_scales=num_scales,
            scales=parsed_scales(scales),
            window_size=side,
            prefilter_ratio=ratio,
            activation=activation,
            batch_size=batch_size,
        )
        names = network.class_names if classes is None else read_class_names(classes)
        setting = _Setting.of(network, algorithm, method, sess, target, names, device)
    except Exception as error:  # of a network, a method, a file: this is a command, which ends in words
        return refused("explain", one_line(error))
    explained = left_out = 0
    for job in tqdm(jobs, desc="explain", unit="photo"):
        try:
            said = setting.write(read_photo(job.photo, max_side), job)
        except Exception as error:  # one photo must not end the run
            no_photo = isinstance(error, NoPhotoError) and not job.named
            left_out += no_photo
            say(f"{escaped(job.photo)}: {'left out' if no_photo else 'skipped'}, {one_line(error)}", sys.stderr)
        else:
            explained += 1
            say(said)
    layer = getattr(algorithm.method, "resolved_layer", "")
    if layer:
        say(f"Layer explained: {layer} ({type(network.module.get_submodule(layer)).__name__})")
    count = len(jobs) - left_out
    say(f"{explained} of {count} photos explained, results in {escaped(out)}")
    return ALL_EXPLAINED if explained == count > 0 else SOME_FAILED


@dataclass
class _Setting:
    """Network, SESS and options, the same for all photos."""

    network: Network
    sess: SESS
    heading: str  # of the base method's map
    with_sess: bool
    classes: int | range  # the class to explain, or the ranks of the predictions
    names: ClassNames | None
    device: torch.device

    @classmethod
    def of(
        cls,
        network: Network,
        sess: SESS,
        method: str,
        with_sess: bool,
        target: str,
        names: ClassNames | None,
        device: str,
    ) -> _Setting:
        where = chosen_device(device)
        network.module.to(where)
        # One forward before work starts gives the number of classes, and fails if the network refuses this window size.
        blank = [torch.zeros(3, *sess.window_for([]))]
        outputs = sess.whole_image_logits(network.module, blank, sess.window_for([])).shape[1]
        if "." in method:
            try_method(sess, network.module, method, where)
        heading = method.rpartition(".")[2]
        return cls(network, sess, heading, with_sess, chosen_class(target, names, outputs), names, where)

    def write(self, photo: Photo, job: PhotoTask) -> str:
        """Explain a photo, write its figure and its maps, and return the lines to print."""
        image = TF.normalize(photo.picture.to(self.device) / 255, list(self.network.mean), list(self.network.std))
        scores = self._probabilities(image)
        ranked = scores.argsort(descending=True, stable=True).tolist()
        targets = [self.classes] if isinstance(self.classes, int) else [ranked[rank] for rank in self.classes]
        rows = [self._row(photo, image, target, float(scores[target])) for target in targets]
        maps = np.stack([list(row.maps.values())[-1].numpy() for row in rows])
        job.result.parent.mkdir(parents=True, exist_ok=True)
        height, width = photo.stored_size
        sizes = f"{width} x {height}"
        if photo.reduced:
            sizes += f" scaled down to {image.shape[2]} x {image.shape[1]}"
        page = explanation_page(rows, f"{escaped(job.photo.name)}{DOT}{sizes}")
        as_pillow(page).save(f"{job.result}.png")
        np.save(f"{job.result}.npy", maps[0] if len(maps) == 1 else maps)
        shown = list(dict.fromkeys([*ranked[:_SHOWN], *targets]))
        lines = [f"{scores[i]:8.1%}  {self._named(i)}{' <- explained' if i in targets else ''}" for i in shown]
        return "\n".join([f"{escaped(job.photo)} ({sizes} pixels)", *lines, f"{'':8}  {escaped(job.result)}.png, .npy"])

    def _probabilities(self, image: Tensor) -> Tensor:
        """Returns every class's probability for the whole photo squashed to the window, as SESS predicts the class."""
        sess = self.sess
        logits = sess.whole_image_logits(self.network.module, [image], sess.window_for([]))
        count = max(logits.shape[1], 2)  # a single logit stands for two classes
        return class_scores(logits.expand(count, -1), torch.arange(count, device=logits.device), sess.activation).cpu()

    def _row(self, photo: Photo, image: Tensor, target: int, score: float) -> PhotoRow:
        sess, model = self.sess, self.network.module
        classes = torch.tensor([target], device=self.device)
        squashed = resize(image[None], sess.window_for([]))
        (base,), _ = base_maps(sess, model, squashed, classes, [image])
        maps = {self.heading: base.float().cpu()}
        caption = f"{self._named(target)}{DOT}{score:.1%}"
        if not self.with_sess:
            return PhotoRow(photo.picture, maps, caption)
        result = sess(model, [image], classes)
        maps["SESS"] = result.maps[0].float().cpu()
        return PhotoRow(photo.picture, maps, caption, result.windows[0], result.scores[0].cpu())

    def _named(self, index: int) -> str:
        return str(index) if self.names is None else f"{class_name(index, self.names)} ({index})"
