"""A killed run goes on where it was; two processes give the table of one."""

import subprocess
import sys
import time

import pytest
import torch

from sess_lightning.cli import main
from tests.helpers.photo_folder import write_photos
from tests.helpers.processes import started


def result(out):
    return [(out / f"insertion-deletion.{kind}").read_bytes() for kind in ("csv", "md")]


def test_killed_and_started_again(benchmark_words, tmp_path):
    photos = write_photos(tmp_path / "photos", 12)
    options = {"methods": "gradient", "num_scales": 2, "ratio": 0.5}
    main(benchmark_words("insertion-deletion", photos, tmp_path / "whole", **options))

    killed = benchmark_words("insertion-deletion", photos, tmp_path / "killed", **options)
    process = started(main, killed)
    rows = tmp_path / "killed" / "insertion-deletion.parts" / "0.jsonl"
    for _ in range(60_000):
        if not process.is_alive() or (rows.exists() and rows.read_bytes().count(b"\n") >= 3):
            break
        time.sleep(0.001)
    process.kill()
    process.join()
    before = rows.read_bytes()
    assert 3 <= before.count(b"\n") < 12
    assert not (tmp_path / "killed" / "insertion-deletion.csv").exists()

    main(killed)
    assert rows.read_bytes().startswith(before[: before.rindex(b"\n") + 1])  # what was measured is not measured again
    assert result(tmp_path / "killed") == result(tmp_path / "whole")


@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
def test_two_processes_give_the_table_of_one(benchmark_words, tmp_path):
    """Five photos: one process has one more, which the sampler makes up for by giving a photo twice."""
    photos = write_photos(tmp_path / "photos", 5)
    options = {"methods": "gradient", "num_scales": 2, "ratio": 0.5}
    one = benchmark_words("insertion-deletion", photos, tmp_path / "one", **options)
    two = benchmark_words("insertion-deletion", photos, tmp_path / "two", devices=2, **options)
    script = tmp_path / "command.py"  # Lightning starts the second process with the same words
    script.write_text(
        "import sys\nfrom sess_lightning.cli import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
    )
    run = subprocess.run([sys.executable, str(script), *two], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]
    assert main(one) == 0
    assert result(tmp_path / "two") == result(tmp_path / "one")
    parts = tmp_path / "two" / "insertion-deletion.parts"
    assert sorted(path.name for path in parts.glob("*.jsonl")) == ["0.jsonl", "1.jsonl"]
    assert run.stdout.count("Written:") == 1
