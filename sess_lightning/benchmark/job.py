"""One run of a benchmark over photos: what it measures becomes rows, and rows become tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sess_lightning.benchmark.tables import Row, write_csv
from sess_lightning.jobs.networks import Networks
from sess_lightning.jobs.options import PhotoOptions
from sess_lightning.jobs.photos import Cost, JobPhotos
from sess_lightning.jobs.store import RowStore
from sess_lightning.jobs.walk import Measure, Walk
from sess_lightning.sess import SESS


@dataclass(frozen=True)
class Job:
    """One run of a benchmark over photos.

    Args:
        name: of the benchmark, and so of its files.
        out: folder of the files.
        options: those that all such benchmarks have.
    """

    name: str
    out: str
    options: PhotoOptions

    def described(self) -> str:
        """Returns what was measured, in words, for the head of a table."""
        options = self.options
        chosen = "All photos" if options.limit is None else f"{options.limit} photos (seed {options.seed})"
        autocast = ", bf16 autocast" if options.precision == "bf16" else ""
        return f"{chosen} of `{options.data}`{autocast}, 95 % intervals over photos"

    def walk(
        self,
        measure: Measure,
        algorithms: Mapping[str, SESS],
        settings: Mapping[str, Any],
        cost: Cost,
        labels: bool = False,
    ) -> list[Row] | None:
        """Measure the photos that have no rows yet.

        Args:
            measure: returns the rows of each photo.
            algorithms: SESS as it is used, by the name of the base method: tried before work starts.
            settings: further settings that determine the results, besides photos and networks.
            cost: the work for a photo.
            labels: whether the labels of the photos are classes to explain.

        Returns:
            The rows of all photos on process 0; `None` on the others, and where other shards are not measured yet.

        Raises:
            ValueError: if an argument is unfit, or no photo can be measured.
        """
        own = self.options
        own.check()
        networks = Networks.of(own, algorithms)
        photos = JobPhotos(own.data, own.root, own.limit, own.seed, networks.first, networks.groups)
        if labels:
            photos.check_labels(networks.num_classes)
        # Which photos are measured is no setting: each is known by its content, and only those asked for count.
        store = RowStore(Path(self.out), self.name, {**networks.settings, **settings})
        walk = Walk(own, networks.models, photos, measure, store, cost)
        if not walk.run_and_judge("measured", "writes the tables"):
            return None
        rows = store.rows(photos.names())
        if not rows:
            raise ValueError(
                f"Expected argument `data` to hold photos that can be measured, but none of the {len(photos)} in "
                f"{own.data!r} is: they cannot be read, or have no objects that are not marked difficult."
            )
        write_csv(Path(self.out) / f"{self.name}.csv", rows)
        return rows

    def finish(self, text: str) -> None:
        """Write the results in Markdown to the output folder and print them."""
        folder = Path(self.out)
        (folder / f"{self.name}.md").write_text(text, encoding="utf-8")
        written = [str(path) for path in sorted(folder.glob(f"{self.name}*")) if path.is_file()]
        print(f"\n{text}\nWritten: {', '.join(written)}")
