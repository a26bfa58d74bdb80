"""Boxes of the data sets: malformed ones are named with file and photo, what nobody can hit is left out and counted."""

import json
import warnings

import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image

from sess_lightning.classifier import LitClassifier
from sess_lightning.data import COCO14, VOC07, CocoPhotos
from sess_lightning.data.box_checks import photo_size
from sess_lightning.data.reading import read_annotated
from tests.helpers.data_trees import voc_object, write_coco, write_photo, write_voc

NAN = float("nan")
SQUARE = [[2, 2], [8, 2], [8, 8], [2, 8]]


def coco_folder(root, annotations, ids=(1, 2), sizes=True, first=(20, 30)):
    images = []
    for number, photo in enumerate(ids):
        write_photo(root / "images" / f"{number}.png", *first, seed=number)
        images.append(
            {"id": photo, "file_name": f"{number}.png"} | ({"height": first[0], "width": first[1]} if sizes else {})
        )
    content = {"images": images, "annotations": annotations, "categories": [{"id": "3", "name": "owl"}]}
    (root / "annotations.json").write_text(json.dumps(content))
    return root


def boxed(box, photo=1, category=3, **more):
    return {"id": 7, "image_id": photo, "category_id": category, "bbox": box, **more}


def targets(data):
    data.setup()
    return [data._photos[i][1] for i in range(len(data._photos))]


UNSEEN = ([], None, [3, 3, 0, 5], [3, 3, 0, 0], [30, 0, 5, 5], [-9, 2, 9, 9], [4, 20, 5, 5])


class TestCocoPhotos:
    @pytest.mark.parametrize("sizes", [True, False])
    @pytest.mark.parametrize("box", UNSEEN)
    def test_what_nobody_can_hit_is_left_out_and_said(self, tmp_path, box, sizes):
        annotations = [boxed(box), boxed([1, 2, 3, 4]), boxed(box, photo=2)]
        with pytest.warns(UserWarning, match=r"annotations\.json: left out 2 objects.*e\.g\. in 0\.png"):
            first, second = targets(CocoPhotos(str(coco_folder(tmp_path, annotations, sizes=sizes))))
        assert first["boxes"].tolist() == [[1, 2, 4, 6]]
        assert [len(first[key]) for key in ("labels", "iscrowd")] == [1, 1]
        assert second["boxes"].shape == (0, 4)

    def test_what_can_be_hit_is_kept_without_a_word(self, tmp_path):
        thin = [[3.5, 3.5, 0, 0], [-5, -5, 6, 6], [29, 19, 50, 50]]  # the pixel around a point; a corner
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            (first, _) = targets(CocoPhotos(str(coco_folder(tmp_path, [boxed(box) for box in thin]))))
        assert len(first["boxes"]) == 3

    @pytest.mark.parametrize("box", [[NAN, 1, 2, 3], [1, 2, 3], [1, 2, -3, 4], ["a", 1, 2, 3], 5, [1, 2, 3, True]])
    def test_malformed_boxes_are_named(self, tmp_path, box):
        folder = coco_folder(tmp_path, [boxed([1, 2, 3, 4]), boxed(box, photo=2)])
        with pytest.raises(ValueError, match=r"annotations\.json, photo 1\.png: expected bbox"):
            CocoPhotos(str(folder)).setup()

    @pytest.mark.parametrize("category", [-1, 2.5, "owl", None])
    def test_categories_that_are_no_index(self, tmp_path, category):
        folder = coco_folder(tmp_path, [boxed([1, 2, 3, 4], category=category)])
        with pytest.raises(ValueError, match=r"annotations\.json, photo 0\.png: expected category_id to be the index"):
            CocoPhotos(str(folder)).setup()

    @pytest.mark.parametrize("ids", [(1, 2), ("1", "2"), ("1", 2)])
    @pytest.mark.parametrize("photo", [2, "2"])
    def test_ids_meet_as_numbers_and_as_texts(self, tmp_path, ids, photo):
        data = CocoPhotos(str(coco_folder(tmp_path, [boxed([1, 2, 3, 4], photo, category="3")], ids)))
        first, second = targets(data)
        assert (len(first["boxes"]), len(second["boxes"])) == (0, 1)
        assert (first["image_id"].tolist(), second["image_id"].tolist()) == (1, 2)
        assert second["labels"].tolist() == [3]
        assert data.class_names == {3: "owl"}

    def test_ids_may_be_words(self, tmp_path):
        first, second = targets(CocoPhotos(str(coco_folder(tmp_path, [boxed([1, 2, 3, 4], "b")], ("b", "a")))))
        assert [len(first["boxes"]), len(second["boxes"])] == [0, 1]  # in the order of the words
        assert [int(first["image_id"]), int(second["image_id"])] == [0, 1]

    def test_two_photos_of_one_id(self, tmp_path):
        with pytest.raises(ValueError, match=r"two of its `images` have the same id"):
            CocoPhotos(str(coco_folder(tmp_path, [], ("1", 1)))).setup()

    def test_annotations_of_no_photo_are_counted(self, tmp_path):
        folder = coco_folder(tmp_path, [boxed([1, 2, 3, 4], 9), boxed([1, 2, 3, 4], 8), boxed([1, 2, 3, 4])])
        with pytest.warns(UserWarning, match=r"left out 2 annotations whose image_id is that of no photo"):
            CocoPhotos(str(folder)).setup()

    def test_classes_that_the_model_lacks_are_named_before_it_runs(self, tmp_path):
        data = CocoPhotos(str(coco_folder(tmp_path, [boxed([1, 2, 3, 4], photo=2)])))
        trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path)
        with pytest.raises(
            ValueError, match=r"photo 1\.png: expected category_id to be a class of the model, 0\.\.2, but got 3"
        ):
            trainer.validate(LitClassifier(num_classes=3, input_size=32), data, verbose=False)
        assert "val_acc" in trainer.validate(LitClassifier(num_classes=4, input_size=32), data, verbose=False)[0]


class TestCOCO14:
    @pytest.fixture(autouse=True)
    def _masks(self):
        pytest.importorskip("pycocotools")

    @staticmethod
    def annotation(number, box, photo=5, category=88):
        polygon = [float(side) for corner in SQUARE for side in corner]
        return {"id": number, "image_id": photo, "category_id": category, "bbox": box, "segmentation": [polygon]}

    def test_what_nobody_can_hit_is_left_out_and_said(self, tmp_path):
        boxes = [[], [3, 3, 0, 5], [30, 0, 5, 5], [2, 2, 6, 6]]
        tree = write_coco(tmp_path, {5: (20, 30)}, [self.annotation(i, box) for i, box in enumerate(boxes, 1)])
        with pytest.warns(UserWarning, match=r"instances_val2014\.json: left out 3 objects.*COCO_val2014_0+5\.jpg"):
            (found,) = targets(COCO14(str(tree)))
        assert found["boxes"].tolist() == [[2, 2, 8, 8]]
        assert [len(found[key]) for key in ("masks", "labels", "iscrowd")] == [1, 1, 1]

    @pytest.mark.parametrize("box", [[NAN, 1, 2, 3], [1, 2, 3], [1, 2, -3, 4]])
    def test_malformed_boxes_are_named(self, tmp_path, box):
        tree = write_coco(tmp_path, {5: (20, 30)}, [self.annotation(1, box)])
        with pytest.raises(ValueError, match=r"instances_val2014\.json, photo COCO_val2014_0+5\.jpg: expected bbox"):
            COCO14(str(tree)).setup()

    def test_a_category_that_is_not_listed(self, tmp_path):
        tree = write_coco(tmp_path, {5: (20, 30)}, [self.annotation(1, [2, 2, 6, 6], category=12)])
        with pytest.raises(ValueError, match=r"COCO_val2014_0+5\.jpg: expected category_id to be one of `categories`"):
            COCO14(str(tree)).setup()

    def test_annotations_of_no_photo_are_counted(self, tmp_path):
        tree = write_coco(tmp_path, {5: (20, 30)}, [self.annotation(1, [2, 2, 6, 6], photo=6)])
        with pytest.warns(UserWarning, match="left out 1 annotations"):
            COCO14(str(tree)).setup()


class TestVOC07:
    def test_what_nobody_can_hit_is_left_out_and_said(self, tmp_path):
        objects = [voc_object("dog", box) for box in ((31, 1, 40, 9), (4, 4, 3, 9), (1, 1, 5, 5))]
        objects[1]["bndbox"]["xmax"] = 4
        objects[1]["bndbox"]["xmin"] = 4  # one pixel wide: counted from 1, the last included
        outside = [voc_object("cat", (-9, -9, 0, 0))]
        tree = write_voc(tmp_path, {"000001": (20, 30, objects), "000002": (20, 30, outside)})
        with pytest.warns(UserWarning, match=r"Annotations: left out 2 objects.*000001\.jpg"):
            first, second = targets(VOC07(str(tree)))
        assert first["boxes"].tolist() == [[3, 3, 4, 9], [0, 0, 5, 5]]
        assert first["labels"].tolist() == [11, 11]
        assert len(second["boxes"]) == len(second["difficult"]) == 0

    @pytest.mark.parametrize("box", [(NAN, 1, 2, 3), (9, 1, 2, 3)])
    def test_malformed_boxes_are_named(self, tmp_path, box):
        tree = write_voc(tmp_path, {"000001": (20, 30, [voc_object("dog", box)])})
        with pytest.raises(ValueError, match=r"Annotations, photo 000001\.jpg: expected a box"):
            VOC07(str(tree)).setup()

    def test_a_size_that_is_not_given_is_that_of_the_photo(self, tmp_path):
        tree = write_voc(tmp_path, {"000001": (20, 30, [voc_object("dog", (31, 1, 40, 9))])})
        file = tree / "VOCdevkit" / "VOC2007" / "Annotations" / "000001.xml"
        head, _, rest = file.read_text().partition("<size>")
        file.write_text(head + rest.partition("</size>")[2])
        with pytest.warns(UserWarning, match="left out 1 objects"):
            (found,) = targets(VOC07(str(tree)))
        assert torch.numel(found["boxes"]) == 0


@pytest.mark.parametrize(("kind", "size"), [("png", (20, 40)), ("tif", (40, 20))])
def test_the_size_of_a_turned_photo_is_that_of_its_pixels_as_read(tmp_path, kind, size):
    """Pillow turns a TIFF when it loads it, and its older releases know the size only then."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / f"side.{kind}", exif=exif.tobytes())
    assert photo_size(tmp_path / f"side.{kind}") == size
    assert tuple(read_annotated(tmp_path / f"side.{kind}").shape[1:]) == size
