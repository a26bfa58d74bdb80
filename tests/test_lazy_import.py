"""`import sess_lightning` loads nothing heavy, and still gives everything that is public."""

import subprocess
import sys

import pytest

import sess_lightning


def test_neither_torch_nor_lightning_is_loaded_before_it_is_used():
    program = (
        "import sys, sess_lightning\n"
        "sess_lightning.__version__, dir(sess_lightning)\n"
        "print([name for name in ('torch', 'lightning', 'matplotlib', 'PIL', 'numpy') if name in sys.modules])\n"
        "print(sess_lightning.metrics.PointingGame.__name__, sess_lightning.SESS.__name__)"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.splitlines() == ["[]", "PointingGame SESS"]


def test_public_names_are_the_classes_of_their_folders():
    from sess_lightning.callback import SESSCallback
    from sess_lightning.sess import SESS, SESSResult

    assert (sess_lightning.SESS, sess_lightning.SESSResult) == (SESS, SESSResult)
    assert sess_lightning.SESSCallback is SESSCallback
    assert {*sess_lightning.__all__, "render", "networks"} <= set(dir(sess_lightning))


def test_an_unknown_name_is_said():
    with pytest.raises(AttributeError, match="module 'sess_lightning' has no attribute 'SES'"):
        sess_lightning.SES  # noqa: B018
