"""What all tests share."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: for the processes that tests start, too

import pytest

# Nothing heavy is imported here: with several workers, pytest's first process reads this file before it starts them.


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny networks: more threads only wait for each other."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def quick_png():
    """PNG files of the same pixels, compressed in a fraction of the time: fits that draw spend a quarter of it so."""
    from PIL import Image

    Image.preinit()  # which registers the format
    real = Image.SAVE["PNG"]

    def save(image, *arguments, **options):
        image.encoderinfo.setdefault("compress_level", 1)
        real(image, *arguments, **options)

    Image.register_save("PNG", save)
    yield
    Image.register_save("PNG", real)


@pytest.fixture(scope="session")
def root():
    """The repository."""
    return Path(__file__).parent.parent


@pytest.fixture(scope="session")
def real(root):
    """Folder of real weights and photos, which are not part of the project: SESS_REAL_DATA, or ../shared/real."""
    return outside_folder("SESS_REAL_DATA", root.parent / "shared" / "real")


@pytest.fixture(scope="session")
def golden_photos(root):
    """Folder of reference maps of photos: SESS_GOLDEN_PHOTOS, or ../shared/golden/sess_photos.

    The photos' licence is unknown, so they are not part of the project.
    """
    return outside_folder("SESS_GOLDEN_PHOTOS", root.parent / "shared" / "golden" / "sess_photos")


@pytest.fixture(scope="module")
def browser():
    """`with browser(width, height, ...) as page`: each page is a fresh one, of one Chromium for a file's tests.

    Not for the session: while Playwright runs, asyncio takes its loop for the one of whatever test comes next.
    """
    from tests.helpers.browser import launched

    with launched() as pages:
        yield pages


def outside_folder(variable, default):
    """The folder that an environment variable names, or the default one; skips where there is none."""
    given = os.environ.get(variable)
    folder = Path(given or default)
    if given and not folder.is_dir():
        pytest.fail(f"{variable} names {given}, which is no folder")
    if not folder.is_dir():
        pytest.skip(f"{variable} is not set and {default} does not exist")
    return folder


@pytest.fixture
def small_weights(tmp_path):
    import torch

    from sess_lightning.networks.small_cnn import small_cnn

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = small_cnn(3)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


@pytest.fixture
def benchmark_words(small_weights):
    """What all benchmark commands are given here."""

    def of(name, photos, out, **options):
        given = {
            "data": photos,
            "model": "small_cnn",
            "weights": small_weights,
            "window": 64,
            "accelerator": "cpu",
            "workers": 0,
            "out": out,
        }
        return ["benchmark", name, *(f"--{key}={value}" for key, value in {**given, **options}.items())]

    return of
