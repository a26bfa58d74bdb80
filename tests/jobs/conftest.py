"""What tests of `sess-lightning maps` share."""

import pytest


@pytest.fixture
def words(benchmark_words, tmp_path):
    """The command, with what all of them give it here."""

    def of(photos, out="maps", **options):
        given = {"num_scales": 2, "method": "gradcam", **options}
        return ["maps", *benchmark_words("", photos, tmp_path / out, **given)[2:]]

    return of
