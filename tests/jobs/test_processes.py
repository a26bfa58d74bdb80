"""Any number of processes, shards, kills and resumes give the results of one process, byte by byte."""

import json
import tarfile
import time
from collections import Counter

import pytest
import torch

from sess_lightning.cli import main
from sess_lightning.data import SavedMaps
from tests.helpers.photo_folder import write_photos
from tests.helpers.processes import ended, start_command

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")

COUNT = 9


@pytest.fixture
def words(benchmark_words, tmp_path):
    photos = write_photos(tmp_path / "photos", COUNT)

    def of(command, out, **options):
        given = {"num_scales": 2, "ratio": 0, **options}
        if command == "pointing":
            return benchmark_words("pointing", photos, tmp_path / out, methods="gradcam", **given)
        return benchmark_words("", photos, tmp_path / out, method="gradcam", **given)[2:]

    def command(name, out, **options):
        found = of(name, out, **options)
        return found if name == "pointing" else ["maps", *found]

    return command


def together(words, count):
    """Run a command in several processes, as torchrun would."""
    assert ended(start_command(main, [*words, f"--devices={count}"], count)) == [0] * count


def results(folder, name):
    """What a command wrote, whatever process wrote it: the table, or the members of all tar files."""
    if name == "pointing":
        return (folder / "pointing.csv").read_bytes()
    members = {}
    for path in folder.glob("*.tar"):
        with tarfile.open(path) as tar:
            members.update({one.name: tar.extractfile(one).read() for one in tar})
    return members


def measured(folder, name):
    """How often each photo was measured, process by process."""
    pattern, key = ("pointing.parts/*.jsonl", "photo") if name == "pointing" else ("maps-*.index.jsonl", "key")
    lines = {path.name: path.read_text().splitlines() for path in folder.glob(pattern)}
    return {file: Counter(json.loads(line)[key] for line in own) for file, own in lines.items()}


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("name", ["pointing", "maps"])
def test_as_one_process(words, tmp_path, name, count):
    assert main(words(name, "one")) == 0
    together(words(name, "many"), count)
    assert results(tmp_path / "many", name) == results(tmp_path / "one", name)
    own = measured(tmp_path / "many", name)
    assert len(own) == count
    assert sum(map(Counter.total, own.values())) == COUNT  # none is repeated
    assert max(map(Counter.total, own.values())) - min(map(Counter.total, own.values())) <= 2


@pytest.mark.parametrize("name", ["pointing", "maps"])
def test_more_processes_than_photos(words, tmp_path, name):
    assert main(words(name, "one", limit=1)) == 0
    together(words(name, "two", limit=1), 2)
    assert results(tmp_path / "two", name) == results(tmp_path / "one", name)


@pytest.mark.parametrize("killed", [0, 1])
@pytest.mark.parametrize("name", ["pointing", "maps"])
def test_a_process_that_is_killed_loses_the_photo_that_it_was_at(words, tmp_path, name, killed):
    assert main(words(name, "one")) == 0
    given = words(name, "killed")
    file = "pointing.parts/{}.jsonl" if name == "pointing" else "maps-{}.index.jsonl"
    lines = tmp_path / "killed" / file.format(killed)
    processes = start_command(main, [*given, "--devices=2"], 2)
    for _ in range(60_000):
        if lines.exists() and lines.read_bytes().count(b"\n"):
            break
        time.sleep(0.001)
    processes[killed].kill()
    codes = ended(processes)
    assert codes[killed] == -9
    assert codes[1 - killed] != 0  # nobody waits for it for ever
    assert not (tmp_path / "killed" / "pointing.csv").exists()
    assert not (tmp_path / "killed" / "maps.index.jsonl").exists()
    together(given, 2)
    assert results(tmp_path / "killed", name) == results(tmp_path / "one", name)
    assert all(own.total() - len(own) <= 1 for own in measured(tmp_path / "killed", name).values())


@pytest.mark.parametrize("name", ["pointing", "maps"])
def test_shards_are_put_together_by_the_command_without_them(words, tmp_path, name, capsys):
    assert main(words(name, "one")) == 0
    for shard in ("1/3", "0/3", "2/3"):
        assert main([*words(name, "shards"), f"--shard={shard}"]) == 0
        assert f"Shard {shard} is" in capsys.readouterr().out
    before = measured(tmp_path / "shards", name)
    assert main(words(name, "shards")) == 0
    assert results(tmp_path / "shards", name) == results(tmp_path / "one", name)
    assert measured(tmp_path / "shards", name) == before  # nothing was left to do
    assert len(before) == 3
    assert sum(map(Counter.total, before.values())) == COUNT


def test_shards_and_processes(words, tmp_path):
    assert main(words("maps", "one")) == 0
    for shard in range(2):
        together([*words("maps", "shards"), f"--shard={shard}/2"], 2)
    assert main(words("maps", "shards")) == 0
    assert results(tmp_path / "shards", "maps") == results(tmp_path / "one", "maps")
    assert [one.photo for one in SavedMaps(tmp_path / "shards")] == [one.photo for one in SavedMaps(tmp_path / "one")]


@pytest.mark.parametrize("name", ["pointing", "maps"])
def test_photos_that_share_batches_give_the_same_results(words, tmp_path, name):
    """With four times as many patches in a batch, as an accelerator would have them."""
    assert main(words(name, "one", batch_size=4)) == 0
    assert main(words(name, "shared", batch_size=4, at_once=4)) == 0
    if name == "pointing":  # distances are whole pixels: rounding does not show
        assert results(tmp_path / "shared", name) == results(tmp_path / "one", name)
        return
    for shared, alone in zip(SavedMaps(tmp_path / "shared"), SavedMaps(tmp_path / "one"), strict=True):
        torch.testing.assert_close(shared.maps, alone.maps, atol=1.01 / 255, rtol=0)
        assert (shared.photo, shared.classes) == (alone.photo, alone.classes)


def test_groups_are_the_same_in_any_number_of_processes(words, tmp_path):
    """Photos that share batches stay together, also when one of them is missing after a kill."""
    assert main(words("maps", "one", at_once=2)) == 0
    together(words("maps", "two", at_once=2), 2)
    assert results(tmp_path / "two", "maps") == results(tmp_path / "one", "maps")
    index = tmp_path / "two" / "maps-0.index.jsonl"
    index.write_bytes(index.read_bytes().partition(b"\n")[0] + b"\n")  # as if killed after the first photo of a group
    (tmp_path / "two" / "maps.index.jsonl").unlink()
    together(words("maps", "two", at_once=2), 2)
    assert results(tmp_path / "two", "maps") == results(tmp_path / "one", "maps")


@pytest.mark.slow  # two fresh interpreters import torch
def test_spawned_processes(words, tmp_path):
    """Networks, hooks and photos go to them in pickles."""
    (tmp_path / "groups.json").write_text(json.dumps({"class 0": [0, 2], "class 1": [1]}))
    given = {"limit": 3, "groups": tmp_path / "groups.json"}
    assert main(words("pointing", "one", **given)) == 0
    assert main(words("pointing", "spawned", devices=2, strategy="ddp_spawn", workers=1, **given)) == 0
    assert results(tmp_path / "spawned", "pointing") == results(tmp_path / "one", "pointing")
    assert len(measured(tmp_path / "spawned", "pointing")) == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_other_processes_read_the_photos(words, tmp_path, workers):
    assert main(words("maps", "one", workers=0)) == 0
    assert main(words("maps", "read", workers=workers)) == 0
    assert results(tmp_path / "read", "maps") == results(tmp_path / "one", "maps")


@pytest.mark.parametrize("shard", ["3/3", "-1/3", "1", "a/b", "1/0", "1/2/3"])
def test_a_shard_that_is_none(words, shard, capsys):
    assert main([*words("pointing", "out"), f"--shard={shard}"]) == 2
    assert "`shard`" in capsys.readouterr().err
