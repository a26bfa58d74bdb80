"""The photos that `SESSCallback(photos=)` watches in one `fit`, `validate` or `test`: the choice, the window."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn

from sess_lightning.callback.class_name_search import FoundNames
from sess_lightning.callback.selection import SampleSelection
from sess_lightning.callback.watched_photos import WatchedPhotos
from sess_lightning.pixels import Size
from sess_lightning.samples import Samples
from sess_lightning.sess import SESS

_WINDOW = (
    "`photos` have sizes of their own, and SESS has no window_size, so its window is the size of the validation images"
)


class PhotoSelection(SampleSelection):
    """The photos that this process follows: of those chosen, every so many-th, whatever the number of processes.

    Attributes:
        mine: numbers of this process's photos.

    Args:
        numbers: of all photos chosen.
        state: what a checkpoint says of them.
        how: a sentence that tells how they were chosen.
        rank: rank of this process.
        world_size: number of processes.
    """

    def __init__(self, numbers: Sequence[int], state: dict[str, Any], how: str, rank: int, world_size: int) -> None:
        super().__init__(len(numbers), range(len(numbers)), 0, len(numbers), rank, world_size)
        self.mine, self.how, self._state = list(numbers[rank::world_size]), how, state

    def state(self, positions: Sequence[list[int]]) -> dict[str, Any]:  # noqa: D102
        return self._state


class PhotoWatch:
    """The photos of one stage. Only those chosen are ever read.

    Args:
        photos: as they were opened.
        class_names: of the model.

    Attributes:
        class_names: of the model, or else those of the photos, whose labels are then the model's.
        window: of the validation images, once a batch was seen.
        annotated: whether one of the photos chosen has objects.
    """

    def __init__(self, photos: WatchedPhotos, class_names: FoundNames) -> None:
        self.photos = photos
        self.window: Size | None = None
        photos.take_names(class_names)
        own = FoundNames(photos.class_names, f"from {photos.about}")
        self.class_names = own if class_names.names is None and photos.class_names else class_names
        self.annotated = False
        self._numbers: list[int] = []
        self._state: dict[str, Any] = {}
        self._how = ""
        self._fits = False  # the model takes the window, and the classes are among its outputs

    def choose(
        self, num_samples: int, indices: Sequence[int] | None, seed: int, resumed: Mapping[str, Any] | None
    ) -> None:
        """Choose by `indices`, else those of the training that is resumed, else by `seed`.

        Raises:
            ValueError: if an index is out of range.
        """
        names = self.photos.names
        for index in indices or ():
            if not 0 <= index < len(names):
                raise ValueError(
                    f"Expected argument `indices` to be numbers of `photos`, 0..{len(names) - 1}, but got {index}."
                )
        self._state = {"num_samples": num_samples, "seed": seed}
        found = None if indices is not None or resumed is None else self._followed(resumed)
        if indices is not None:
            self._numbers, self._how = list(dict.fromkeys(indices)), "They were given by `indices`."
        elif found is not None:
            self._numbers, self._how = found, "They are those of the training that is resumed."
        else:
            order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
            self._numbers, self._how = sorted(order[:num_samples]), f"They were chosen by seed {seed}."
        self._state["photos"] = [names[number] for number in self._numbers]

    def _followed(self, resumed: Mapping[str, Any]) -> list[int] | None:
        """Numbers of the photos that a checkpoint names; `None`, and said, where they are others now."""
        numbers = {name: number for number, name in enumerate(self.photos.names)}
        missing = [name for name in resumed["photos"] if name not in numbers]
        differing = [name for name, value in self._state.items() if resumed.get(name) != value]
        if not missing and not differing:
            return [numbers[name] for name in resumed["photos"]]
        why = f"{missing[0]} is not there" if missing else f"{' and '.join(differing)} changed"
        rank_zero_warn(f"SESSCallback chooses the photos to follow anew, not those of the checkpoint: {why}.")
        return None

    def check(self) -> None:
        """Read all photos chosen, on every process, so that what is wrong with one is said everywhere and at once."""
        self.annotated = any([self.photos[number][0].objects is not None for number in self._numbers])

    def untried(self) -> tuple[Samples, Any] | None:
        """Returns a photo for `check_outputs` and its batch; `None` where that was done, or no photo was chosen."""
        return None if self._fits or not self._numbers else self.photos[self._numbers[0]]

    def selection(self, rank: int, world_size: int) -> PhotoSelection:
        """Returns the share of a process."""
        return PhotoSelection(self._numbers, self._state, self._how, rank, world_size)

    def see(self, batch: Any, to_samples: Callable[[Any], Samples]) -> None:
        """Take the window from a batch of the validation.

        Raises:
            ValueError: if the batch cannot be read, or its images have several sizes.
        """
        try:
            images = to_samples(batch).images
        except (TypeError, ValueError) as error:
            raise ValueError(f"{_WINDOW}, but the batch cannot be read: {error} Or pass SESS(window_size=).") from error
        sizes = sorted({(image.shape[-2], image.shape[-1]) for image in images})
        if len(sizes) != 1:
            raise ValueError(
                f"{_WINDOW}, but these have {f'several sizes, {sizes[:4]}' if sizes else 'none'}. Pass "
                "SESS(window_size=), the size that the model was trained on."
            )
        self.window = sizes[0]

    def windowed(self, sess: SESS) -> SESS:
        """The algorithm with the window of the validation images, unless it has its own.

        Raises:
            ValueError: if no validation batch has shown them.
        """
        if sess.window_size is not None:
            return sess
        if self.window is None:
            raise ValueError(f"{_WINDOW}, but no validation batch came. Pass SESS(window_size=).")
        other = copy(sess)
        other.window_size = self.window
        return other

    def check_outputs(self, sess: SESS, model: nn.Module, image: Tensor) -> None:
        """Once: refuse classes that the model has no output for."""
        if not self._fits:
            logits = sess.whole_image_logits(model, [image], sess.window_for([image]))
            self.photos.check_outputs(logits.shape[1])
            self._fits = True
