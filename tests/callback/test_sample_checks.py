"""What the callback says about doubtful samples, once; sigmoid heads; which channels are drawn."""

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader
from torchvision import tv_tensors

from sess_lightning import SESS, SESSCallback
from sess_lightning.callback.explainer import Explained
from sess_lightning.callback.sample_checks import BoxNotes, notes_on_boxes
from sess_lightning.callback.sample_rows import DisplayOptions, map_rows
from sess_lightning.metrics import InsertionAUC
from sess_lightning.samples import Samples
from tests.helpers.nets import seeded
from tests.helpers.training import SMALL, Module, Pictures, loader, small_sess, trainer


def sigmoid_sess():
    return SESS(num_scales=1, window_size=None, activation="sigmoid")


class Formed(Pictures):
    """Pictures whose label or target a function of the index gives."""

    def __init__(self, known, count=8):
        super().__init__(count=count)
        self.known = known

    def __getitem__(self, i):
        return self.images[i], self.known(i)


def formed(known, targets=False):
    def collate(items):
        return torch.stack([image for image, _ in items]), [target for _, target in items]

    return DataLoader(Formed(known), batch_size=4, collate_fn=collate if targets else None)


def fit(tmp_path, callback, validation, module=None, **options):
    t = trainer(tmp_path, callback, **options)
    t.fit(module or Module(), loader(), validation)
    return t


def said(caught, text):
    return [str(w.message) for w in caught if text in str(w.message)]


class Certain(Module):
    """Says .98 for each of several classes of every picture, as a multi-label head may."""

    def forward(self, x):
        logit = torch.logit(torch.tensor(0.98))
        return self.net(x) * 0 + logit


class TestSigmoid:
    def test_reaches_metrics_by_name(self, tmp_path):
        callback = SESSCallback(sigmoid_sess(), num_samples=4)
        t = trainer(tmp_path, callback)
        t.validate(Certain(), loader(), verbose=False)
        for key in ("sess/insertion_auc", "sess/deletion_auc", "sess/base_insertion_auc"):
            assert t.callback_metrics[key] == pytest.approx(0.98, abs=1e-5)
        assert callback.last_result.scores.tolist() == pytest.approx([0.98] * 4, abs=1e-5)

    def test_a_metric_keeps_its_own(self, tmp_path):
        callback = SESSCallback(sigmoid_sess(), num_samples=4, metrics={"insertion": InsertionAUC()})
        t = trainer(tmp_path, callback)
        t.validate(Certain(), loader(), verbose=False)
        assert t.callback_metrics["sess/insertion_auc"] == pytest.approx(0.25, abs=1e-5)  # softmax over four equal


class TestSeveralClasses:
    @staticmethod
    def rows(i):
        return torch.tensor([0.0, 1.0, float(i % 2), 0.0])

    def test_are_said_once_under_softmax(self, tmp_path):
        with pytest.warns(UserWarning, match=r'several classes.*activation="sigmoid"') as caught:
            fit(tmp_path, SESSCallback(small_sess(), **SMALL), formed(self.rows))
        assert len(said(caught, "several classes")) == 1

    def test_are_right_under_sigmoid(self, tmp_path, recwarn):
        fit(tmp_path, SESSCallback(sigmoid_sess(), **SMALL), formed(self.rows))
        assert not said(recwarn, "several classes")


@pytest.mark.parametrize("label", [-1, -100, 255])
def test_ignored_labels_explain_the_prediction(tmp_path, label):
    callback = SESSCallback(small_sess(), num_samples=8)
    fit(tmp_path, callback, formed(lambda i: label if i % 2 else 3), max_epochs=1, logger=TensorBoardLogger(tmp_path))
    result = callback.last_result
    known = result.labels == 3
    assert known.sum() == 4
    assert (result.labels[~known] == -1).all()
    assert (result.targets[known] == 3).all()
    assert torch.equal(result.targets[~known], result.predictions[~known])


def test_more_parts_of_a_batch_are_said_once(tmp_path):
    class Three(Pictures):
        def __getitem__(self, i):
            return (*super().__getitem__(i), f"{i}.png")

    with pytest.warns(UserWarning, match="first part of the batch as images") as caught:
        t = fit(tmp_path, SESSCallback(small_sess(), **SMALL), DataLoader(Three(), batch_size=4))
    assert len(said(caught, "first part of the batch")) == 1
    assert t.callback_metrics["sess/num_samples"] == 3


def with_box(box):
    return lambda i: {"boxes": torch.tensor([box]), "labels": torch.tensor([i % 4])}


class TestBoxes:
    @pytest.mark.parametrize(
        ("box", "says"),
        [([0.1, 0.2, 0.6, 1.0], "at most 1, and reads them as pixels"), ([200.0, 300.0, 400.0, 500.0], "leaves out")],
    )
    def test_in_another_unit_are_said_once(self, tmp_path, box, says):
        with pytest.warns(UserWarning, match=says) as caught:
            fit(tmp_path, SESSCallback(small_sess(), **SMALL), formed(with_box(box), targets=True))
        assert len(said(caught, says)) == 1

    def test_in_pixels_are_fine(self, tmp_path, recwarn):
        t = fit(tmp_path, SESSCallback(small_sess(), **SMALL), formed(with_box([3.0, 3.0, 9.0, 12.0]), targets=True))
        assert "sess/pointing_acc" in t.callback_metrics
        assert not said(recwarn, "boxes")

    def test_a_canvas_of_another_size_is_said_once(self, tmp_path):
        def known(i):
            boxes = tv_tensors.BoundingBoxes([[3, 3, 9, 9]], format="XYWH", canvas_size=(100 + i, 90))
            return {"boxes": boxes, "labels": torch.tensor([i % 4])}

        with pytest.warns(UserWarning, match="canvas_size") as caught:
            fit(tmp_path, SESSCallback(small_sess(), **SMALL), formed(known, targets=True))
        assert len(said(caught, "canvas_size")) == 1

    def test_how_many(self):
        objects = [
            {"boxes": torch.tensor([[0, 0, 5, 5], [9, 9, 12, 12], [3, 3, 3, 3]])},
            None,
            {"boxes": torch.zeros(0, 4)},
        ]
        ((kind, note),) = notes_on_boxes(Samples(torch.zeros(3, 3, 8, 8), objects=objects))
        assert kind == "boxes outside"
        assert "2 of 3 boxes" in note

    @pytest.mark.parametrize("boxes", [torch.zeros(0, 4), torch.zeros(2, 5), torch.tensor([[0, 0, float("nan"), 1]])])
    def test_boxes_that_the_metrics_judge_are_left_to_them(self, boxes):
        assert not list(notes_on_boxes(Samples(torch.zeros(1, 3, 8, 8), objects=[{"boxes": boxes}])))

    def test_of_the_photo_that_still_overlap_the_image_are_asked_about_once(self, tmp_path):
        """A photo of 50 x 40 pixels that was resized to 32 x 32, with its boxes as they were."""

        def known(i):
            return {"boxes": torch.tensor([[3 + i % 4, 2, 46, 37]]), "labels": torch.tensor([i % 4])}

        with pytest.warns(UserWarning, match=r"8 of 8 boxes .* before it was resized\?") as caught:
            fit(tmp_path, SESSCallback(small_sess(), num_samples=8, num_images=1), formed(known, targets=True))
        assert len(said(caught, "resized?")) == 1


def kinds_of(boxes, size=(100, 100), part=4):
    """What is said about these boxes, one an image, which come a few at a time."""
    notes = BoxNotes()
    said = []
    for begin in range(0, len(boxes), part):
        some = boxes[begin : begin + part]
        objects = [{"boxes": box[None], "labels": torch.tensor([0])} for box in some]
        said += [kind for kind, _ in notes.add(Samples(torch.zeros(len(some), 1, *size), objects=objects))]
    return set(said)


def random_boxes(count, size, seed):
    """Boxes of an eighth to all of the width and height, anywhere inside a picture of `size` (height, width)."""
    given = torch.Generator().manual_seed(seed)
    sides = torch.tensor([size[1], size[0]]) * (0.125 + 0.875 * torch.rand(count, 2, generator=given))
    first = torch.rand(count, 2, generator=given) * (torch.tensor([size[1], size[0]]) - sides)
    return torch.cat([first, first + sides], 1)


class TestBoxesOverTheBorder:
    @pytest.mark.parametrize("size", [(375, 500), (150, 150), (100, 150)])
    def test_of_a_larger_photo_are_noticed(self, size):
        """Wholly outside or over the border: one of the two is said of nearly every choice of samples."""
        noticed = [bool(kinds_of(random_boxes(32, size, seed))) for seed in range(50)]
        assert sum(noticed) >= 48

    def test_inside_are_fine(self):
        assert not any(kinds_of(random_boxes(32, (100, 100), seed)) for seed in range(50))

    def test_of_images_cut_out_and_not_clipped_are_fine(self):
        """A cut of 100 x 100 out of 150 x 150, anywhere; only boxes that have a pixel in it."""
        said = 0
        for seed in range(200):
            corner = torch.randint(0, 51, (128, 2), generator=torch.Generator().manual_seed(1000 + seed))
            boxes = random_boxes(128, (150, 150), seed) - corner.repeat(1, 2)
            seen = (boxes[:, :2] < 99).all(1) & (boxes[:, 2:] > 1).all(1)
            said += bool(kinds_of(boxes[seen][:32]))
        assert said <= 1

    @pytest.mark.parametrize("over", [0.0, 1.0, 2.0])
    def test_by_a_pixel_or_two_are_fine(self, over):
        assert not kinds_of(torch.tensor([[10.0, 10.0, 100 + over, 60.0]] * 32))

    def test_a_few_are_fine(self):
        inside, over = [[10, 10, 60, 60]], [[10, 10, 140, 60]]
        assert not kinds_of(torch.tensor(over * 7))
        assert not kinds_of(torch.tensor(inside * 40 + over * 9))
        assert kinds_of(torch.tensor(inside * 24 + over * 8)) == {"boxes over the border"}

    def test_a_wider_photo_alone(self):
        """Resized in one direction only."""
        assert kinds_of(torch.tensor([[10, 10, 140, 60]] * 12)) == {"boxes over the border"}

    def test_are_not_said_where_others_lie_outside(self):
        boxes = torch.tensor([[120, 10, 160, 60]] + [[10, 10, 140, 60]] * 12)
        assert kinds_of(boxes) == {"boxes outside"}


def test_a_warning_with_changing_numbers_is_said_once(tmp_path):
    class Growing(Pictures):
        scale = 50.0

        def __getitem__(self, i):
            Growing.scale += 1
            image, label = super().__getitem__(i)
            return image.abs() * Growing.scale, label

    with pytest.warns(UserWarning, match="cannot have made") as caught:
        fit(tmp_path, SESSCallback(small_sess(), **SMALL), DataLoader(Growing(), batch_size=4), max_epochs=3)
    assert len(said(caught, "cannot have made")) == 1


def explained(image):
    size = image.shape[-2:]
    return Explained(
        images=[image], labels=torch.tensor([0]), objects=[None], maps=[torch.rand(size)], targets=torch.tensor([0]),
        predictions=torch.tensor([0]), scores=torch.tensor([0.5]), second_maps=[None], hits=[None],
    )  # fmt: skip


class TestBands:
    MEAN, STD = (0.1, 0.2, 0.3, 0.4, 0.5), (0.5, 0.4, 0.3, 0.2, 0.1)

    def normalised(self):
        levels = torch.randint(0, 256, (5, 6, 7), generator=torch.Generator().manual_seed(0))
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.MEAN, self.STD))
        return levels, (levels / 255 - mean) / std

    @pytest.mark.parametrize("bands", [(3, 2, 1), (0, 4, 4), (2,)])
    def test_are_drawn_as_they_were(self, bands):
        levels, image = self.normalised()
        (row,) = map_rows(explained(image), DisplayOptions(self.MEAN, self.STD, bands=bands))
        expected = levels[list(bands)].expand(3, -1, -1).byte()
        assert torch.equal(row.image, expected)

    def test_colours_in_another_order(self):
        levels, image = self.normalised()
        (row,) = map_rows(explained(image[:3]), DisplayOptions(self.MEAN[:3], self.STD[:3], bands=(2, 1, 0)))
        assert torch.equal(row.image, levels[:3].flip(0).byte())

    @pytest.mark.parametrize("channels", [1, 2, 4, 13])
    def test_in_a_fit(self, tmp_path, channels):
        class Channels(Pictures):
            def __init__(self):
                super().__init__()
                self.images = seeded(3, 12, channels, 32, 32)

        module = Module(channels=channels)
        data = DataLoader(Channels(), batch_size=4)
        bands = (channels - 1, 0, channels - 1)
        callback = SESSCallback(
            small_sess(), **SMALL, bands=bands, mean=[0.0] * channels, std=[1.0] * channels, save_dir=str(tmp_path)
        )
        t = trainer(tmp_path, callback, max_epochs=1)
        t.fit(module, data, data)
        assert list(tmp_path.rglob("*.png"))

    def test_are_named_where_there_are_more_channels(self, tmp_path):
        data = DataLoader(seeded(3, 4, 6, 32, 32), batch_size=4)
        with pytest.warns(UserWarning, match=r"6 channels, but mean and std have 3 values.*bands="):
            trainer(tmp_path, SESSCallback(small_sess(), **SMALL)).validate(Module(channels=6), data, verbose=False)

    def test_that_the_images_lack_stop_before_the_training(self, tmp_path):
        t = trainer(tmp_path, SESSCallback(small_sess(), **SMALL, bands=(3, 2, 1)))
        with pytest.raises(ValueError, match=r"`bands` to name channels of the images, 0\.\.2, but got \(3, 2, 1\)"):
            t.fit(Module(), loader(), loader())
        assert t.global_step == 0

    @pytest.mark.parametrize("bands", [(1, 2), (1, 2, -1), (1, 2, True), (0.0, 1, 2), 3, "rgb", ()])
    def test_bad_arguments(self, bands):
        with pytest.raises(ValueError, match="Expected argument `bands`"):
            SESSCallback(bands=bands)
