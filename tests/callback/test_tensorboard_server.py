"""A TensorBoard server reads a run of the callback and gives everything back over its HTTP API."""

import io
from urllib.parse import parse_qsl

import numpy as np
from PIL import Image

from tests.helpers.boards import callback, events, fetch, fetch_until, fit, pictures, server

EPOCHS = 12  # more than the ten pictures that TensorBoard keeps by itself


def test_everything_comes_back(tmp_path):
    t = fit(tmp_path, callback(num_samples=4, num_images=2), epochs=EPOCHS)
    board = events(t.logger.log_dir)
    steps = [3 * epoch for epoch in range(1, EPOCHS + 1)]
    with server(tmp_path) as address:
        every = set(board.Tags()["scalars"])
        assert {"sess/overall", "sess/base_pointing_acc", "sess/seconds"} <= every
        ((run, tags),) = fetch_until(
            address, lambda runs: any(every <= set(tags) for tags in runs.values()), "scalars/tags"
        ).items()
        assert set(tags) == every
        for tag in every:
            points = fetch_until(
                address,
                lambda points, tag=tag: len(points) == len(board.Scalars(tag)),
                "scalars/scalars",
                run=run,
                tag=tag,
            )
            assert [(step, value) for _, step, value in points] == [(p.step, p.value) for p in board.Scalars(tag)]

        for tag in ("sess/maps", "sess/curves", "sess/pointing_per_class"):
            shown = fetch_until(
                address, lambda shown: len(shown) == EPOCHS, "images/images", run=run, tag=tag, sample=0
            )
            assert [one["step"] for one in shown] == steps
            for one, (step, expected) in zip(shown, pictures(board, tag).items(), strict=True):
                assert one["step"] == step
                content = fetch(address, "images/individualImage", **dict(parse_qsl(one["query"])))
                np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(content))), expected)
        (film,) = fetch(address, "images/images", run=run, tag="sess/evolution", sample=0)
        assert film["step"] == steps[-1]

        texts = {name: set(tags) for name, tags in fetch(address, "text/tags").items()}
        assert texts == {run: {"sess/intervals/text_summary", "sess/run/text_summary"}}
        (words,) = fetch(address, "text/text", run=run, tag="sess/run/text_summary")
        assert words["step"] == steps[0]
        assert "<td>GradCAM(target_layer=None, reshape=None)</td>" in words["text"]
        assert "<th>position in the batch</th>" in words["text"]

        (category,) = fetch(address, "custom_scalars/layout")["category"]
        assert category["title"] == "sess"
        assert len(category["chart"]) == 7
        for chart in category["chart"]:
            for pattern in chart["multiline"]["tag"]:
                answer = fetch(address, "custom_scalars/scalars", run=run, tag=pattern)
                assert answer["regex_valid"]
                (points,) = answer["tag_to_events"].values()
                assert len(points) == EPOCHS - ("drift" in pattern)  # which compares two validations
