"""Networks, data and independent numpy references that the tests of the metrics share."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.integrate import trapezoid

from sess_lightning.metrics import (
    AttentionIoU,
    BackgroundReliance,
    DeletionAUC,
    EnergyPointingGame,
    InsertionAUC,
    MaxBoxAccuracy,
    ObjectReliance,
    PixelAveragePrecision,
    PointingGame,
    RelevanceRankAccuracy,
    SaliencyDrift,
    SymmetricRelevanceGain,
)

HEIGHT, WIDTH, CLASSES = 12, 16, 3
STEPS, KERNEL, SIGMA = 6, 5, 2.0
TOLERANCE, THRESHOLDS, IOUS = 2, 10, (0.3, 0.5, 0.7)


def predict(images):
    """A fixed model with three logits, not linear, defined at the top level so that it can be pickled."""
    rows = torch.linspace(-2, 2, images.shape[2]).to(images)[:, None]
    columns = torch.linspace(2, -1, images.shape[3]).to(images)
    return torch.stack([(images[:, 0] * rows).tanh().mean((1, 2)), (images * columns).mean((1, 2, 3)).exp() - 1,
                        (images[:, 1] - images[:, 0]).abs().mean((1, 2))], 1) * 3  # fmt: skip


def constant(images):
    """A model that has learnt nothing: insertion and deletion agree."""
    return images.new_zeros(len(images), CLASSES)


def samples(count, seed):
    """Keyword arguments for every metric: `count` samples, the last one with masks, the first one without its class."""
    rng = np.random.default_rng(seed)
    objects = []
    for number in range(count):
        x, y = rng.uniform(0, [WIDTH - 4, HEIGHT - 4], (3, 2)).T
        w, h = rng.uniform(1, 9, (2, 3))
        boxes = np.stack([x, y, x + w, y + h], 1)
        objects.append({"boxes": torch.from_numpy(boxes).float(), "labels": torch.tensor([0, 1, 2])})
        if number == count - 1:
            masks = np.stack([box_mask(box) for box in boxes])
            objects[-1] = {"masks": torch.from_numpy(masks), "labels": torch.tensor([0, 1, 2])}
    targets = rng.integers(0, CLASSES, count)
    if count > 1:
        objects[0]["labels"] = torch.tensor([5, 6, 7])
    return {
        "predict": predict,
        "images": torch.from_numpy(rng.normal(size=(count, 3, HEIGHT, WIDTH))).float(),
        "saliency": torch.from_numpy(smooth_noise(rng, count)).float(),
        "targets": torch.from_numpy(targets),
        "objects": objects,
        "previous": torch.from_numpy(smooth_noise(rng, count)).float(),
    }


def smooth_noise(rng, count):
    noise = rng.uniform(size=(count, HEIGHT + 4, WIDTH + 4))
    return sum(noise[:, i : i + HEIGHT, j : j + WIDTH] for i in range(5) for j in range(5)) / 25


def select(kwargs, rows):
    """The samples `rows` of what `samples` returned."""
    chosen = {key: value[rows] for key, value in kwargs.items() if isinstance(value, torch.Tensor)}
    return {**chosen, "predict": kwargs["predict"], "objects": [kwargs["objects"][i] for i in rows]}


def box_mask(box, height=HEIGHT, width=WIDTH):
    mask = np.zeros((height, width), dtype=bool)
    for y in range(height):
        for x in range(width):
            mask[y, x] = np.floor(box[0]) <= x < np.ceil(box[2]) and np.floor(box[1]) <= y < np.ceil(box[3])
    return mask


def class_regions(kwargs):
    """Map, masks of the objects of its class, for each sample that has such objects; in numpy."""
    for saliency, target, objects in zip(kwargs["saliency"], kwargs["targets"], kwargs["objects"], strict=True):
        chosen = (objects["labels"] == target).numpy()
        if chosen.any():
            masks = objects["masks"].numpy() if "masks" in objects else [box_mask(b) for b in objects["boxes"].numpy()]
            yield saliency.double().numpy(), np.asarray(masks)[chosen]


def numpy_blur(image, kernel_size, sigma):
    """Sampled Gaussian of an image `(C, H, W)`, reflected at the border without repeating the edge."""
    radius = kernel_size // 2
    window = np.exp(-((np.arange(kernel_size) - radius) ** 2) / (2 * sigma**2))
    window = np.outer(window, window) / window.sum() ** 2
    padded = np.pad(image, ((0, 0), (radius, radius), (radius, radius)), mode="reflect")
    blurred = np.zeros_like(image)
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            blurred[:, y, x] = (padded[:, y : y + kernel_size, x : x + kernel_size] * window).sum((1, 2))
    return blurred


def numpy_curve(model, image, saliency, target, mode, steps=STEPS, kernel_size=KERNEL, sigma=SIGMA):
    """The curve of one image, one perturbed image at a time."""
    image = image.double().numpy()
    order = np.argsort(saliency.double().numpy().ravel(), kind="stable")[::-1]
    start, finish = (
        (numpy_blur(image, kernel_size, sigma), image) if mode == "insertion" else (image, np.zeros_like(image))
    )
    per_step = int(np.ceil(order.size / steps))
    current, curve = start.copy().reshape(len(image), -1), []
    for i in range(int(np.ceil(order.size / per_step)) + 1):
        changed = order[max(i - 1, 0) * per_step : i * per_step]
        current[:, changed] = finish.reshape(len(image), -1)[:, changed]
        logits = model(torch.from_numpy(current.reshape(1, *image.shape)))[0].numpy()
        odds = np.exp(logits - logits.max())
        curve.append(odds[target] / odds.sum())
    return np.array(curve)


def numpy_removal(model, image, order, target, steps=STEPS):
    """The curve while pixels become zero in this order, one perturbed image at a time."""
    image, per_step, curve = image.double().numpy(), int(np.ceil(order.size / steps)), []
    for removed in [*range(0, order.size, per_step), order.size]:
        left = image.reshape(len(image), -1).copy()
        left[:, order[:removed]] = 0
        logits = model(torch.from_numpy(left.reshape(1, *image.shape)))[0].numpy()
        odds = np.exp(logits - logits.max())
        curve.append(odds[target] / odds.sum())
    return np.array(curve)


def relevance_gain(kwargs):
    gains = []
    for image, saliency, target in zip(kwargs["images"], kwargs["saliency"], kwargs["targets"].tolist(), strict=True):
        order = np.argsort(saliency.double().numpy().ravel(), kind="stable")
        least, most = (numpy_removal(kwargs["predict"], image, one, target) for one in (order, order[::-1]))
        gains.append(trapezoid(least - most, dx=1 / (len(most) - 1)))
    return np.mean(gains)


def mean_auc(kwargs, mode):
    rows = zip(kwargs["images"], kwargs["saliency"], kwargs["targets"].tolist(), strict=True)
    curves = [numpy_curve(kwargs["predict"], *row, mode) for row in rows]
    return np.mean([trapezoid(curve, dx=1 / (len(curve) - 1)) for curve in curves])


def pointing(kwargs):
    hits = []
    for saliency, masks in class_regions(kwargs):
        v, u = np.unravel_index(saliency.argmax(), saliency.shape)
        ys, xs = np.nonzero(masks.any(0))
        hits.append(bool((((ys - v) ** 2 + (xs - u) ** 2) < TOLERANCE**2).any()))
    return np.mean(hits)


def energy(kwargs):
    return np.mean([saliency[masks.any(0)].sum() / saliency.sum() for saliency, masks in class_regions(kwargs)])


def rank_accuracy(kwargs):
    shares = []
    for saliency, masks in class_regions(kwargs):
        inside = masks.any(0).ravel()
        shares.append(inside[np.argsort(-saliency.ravel())[: inside.sum()]].mean())
    return np.mean(shares)


def attention_iou(kwargs):
    """1 - |a - m|^2 / |a + m|^2 for distributions a and m, which is another form of the paper's."""
    scores = []
    for saliency, masks in class_regions(kwargs):
        a, m = saliency - saliency.min(), masks.any(0).astype(float)
        a, m = a / a.sum(), m / m.sum()
        scores.append(1 - ((a - m) ** 2).sum() / ((a + m) ** 2).sum())
    return np.mean(scores)


def pixel_precision(kwargs, thresholds=THRESHOLDS):
    """`sum (R_n - R_{n-1}) P_n` over all pixels, as scikit-learn defines the average precision."""
    scores, inside = [], []
    for saliency, masks in class_regions(kwargs):
        normalised = (saliency - saliency.min()) / (saliency.max() - saliency.min())
        scores.append(np.floor(normalised.ravel() * thresholds).clip(max=thresholds - 1))
        inside.append(masks.any(0).ravel())
    scores, inside = np.concatenate(scores), np.concatenate(inside)
    area = recall = 0
    for threshold in np.unique(scores)[::-1]:
        found = scores >= threshold
        area += (inside[found].sum() / inside.sum() - recall) * inside[found].mean()
        recall = inside[found].sum() / inside.sum()
    return area


def flood_boxes(mask):
    """Tight boxes `(x1, y1, x2, y2)` and areas of the 8-connected components, by flood fill."""
    todo, found = {tuple(p) for p in np.argwhere(mask)}, []
    while todo:
        stack, inside = [todo.pop()], []
        while stack:
            y, x = stack.pop()
            inside.append((x, y))
            around = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & todo
            todo -= around
            stack += around
        xs, ys = np.array(inside).T
        found.append(((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1), len(inside)))
    return found


def numpy_iou(a, b):
    shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def numpy_best_ious(saliency, boxes, thresholds, largest=False):
    normalised = (saliency - saliency.min()) / (saliency.max() - saliency.min())
    best = []
    for threshold in thresholds:
        components = flood_boxes(normalised >= threshold)
        if largest:
            components = [max(components, key=lambda pair: pair[1])]
        best.append(max(numpy_iou(box, other) for box, _ in components for other in boxes))
    return np.array(best)


def max_box(kwargs):
    rows = []
    for saliency, masks in class_regions(kwargs):
        boxes = [flood_boxes(np.outer(mask.any(1), mask.any(0)))[0][0] for mask in masks]
        rows.append(numpy_best_ious(saliency, boxes, np.arange(THRESHOLDS) / THRESHOLDS))
    return np.mean([(np.array(rows) >= iou).mean(0).max() for iou in IOUS])


def drift(kwargs):
    pairs = zip(kwargs["saliency"].double().numpy(), kwargs["previous"].double().numpy(), strict=True)
    return np.mean([1 - (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()) for a, b in pairs])


def reliance(kwargs, part):
    """Probability that is lost where boxes, or all but them, are painted over; a ring of one pixel around them."""
    lost = []
    rows = zip(kwargs["images"].double().numpy(), kwargs["targets"].tolist(), kwargs["objects"], strict=True)
    for image, target, objects in rows:
        chosen = (objects["labels"] == target).numpy()
        if not chosen.any():
            continue
        masks = objects["masks"].numpy() if "masks" in objects else [box_mask(b) for b in objects["boxes"].numpy()]
        inside = np.any([np.outer(one.any(1), one.any(0)) for one in np.asarray(masks)[chosen]], axis=0)
        wide = np.pad(inside, 1)
        near = np.any([wide[i : i + HEIGHT, j : j + WIDTH] for i in range(3) for j in range(3)], axis=0)
        around = image[:, near & ~inside].mean(1)[:, None, None]
        changed = np.where(inside, around, image) if part == "object" else np.where(inside, image, 0)
        odds = [np.exp(kwargs["predict"](torch.from_numpy(one)[None])[0].numpy()) for one in (image, changed)]
        before, after = (one[target] / one.sum() for one in odds)
        lost.append(before - after)
    return np.mean(lost)


@dataclass(frozen=True)
class Case:
    """A metric, the keywords it takes, an independent reference of its value, and which way is better."""

    make: Callable
    keywords: tuple[str, ...]
    reference: Callable
    higher_is_better: bool | None = True
    lowest: float = 0.0

    def of(self, kwargs):
        return {key: kwargs[key] for key in self.keywords}


CURVE = ("predict", "images", "saliency", "targets")
PLACES = ("saliency", "targets", "objects")
RELIED = ("predict", "images", "targets", "objects")
CASES = {
    "insertion": Case(
        lambda: InsertionAUC(STEPS, blur_kernel_size=KERNEL, blur_sigma=SIGMA),
        CURVE,
        lambda k: mean_auc(k, "insertion"),
    ),
    "deletion": Case(lambda: DeletionAUC(STEPS), CURVE, lambda k: mean_auc(k, "deletion"), higher_is_better=False),
    "srg": Case(lambda: SymmetricRelevanceGain(STEPS), CURVE, relevance_gain, lowest=-1.0),
    "pointing": Case(lambda: PointingGame(8, tolerance=TOLERANCE), PLACES, pointing),
    "energy": Case(EnergyPointingGame, PLACES, energy),
    "max_box": Case(lambda: MaxBoxAccuracy(IOUS, THRESHOLDS), PLACES, max_box),
    "rank": Case(RelevanceRankAccuracy, PLACES, rank_accuracy),
    "attention_iou": Case(AttentionIoU, PLACES, attention_iou),
    "pixel_precision": Case(lambda: PixelAveragePrecision(THRESHOLDS), PLACES, pixel_precision),
    "object_reliance": Case(
        ObjectReliance, RELIED, lambda k: reliance(k, "object"), higher_is_better=None, lowest=-1.0
    ),
    "background_reliance": Case(
        BackgroundReliance, RELIED, lambda k: reliance(k, "background"), higher_is_better=None, lowest=-1.0
    ),
    "drift": Case(SaliencyDrift, ("saliency", "previous"), drift, higher_is_better=None),
}


def boxed(*boxes, labels=None, **flags):
    return [{"boxes": torch.tensor(boxes), "labels": torch.tensor(labels or [1] * len(boxes)), **flags}]


def value_of(metric, *arguments):
    metric.update(*arguments)
    return float(metric.compute())
