"""The plugin's routes, asked without TensorBoard and without a browser."""

import gzip
import io
import json
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from urllib.parse import urlencode

import numpy as np
import pytest
from PIL import Image
from werkzeug.test import Client

from sess_lightning.viewer import plugin as module
from sess_lightning.viewer.plugin import SESSPlugin
from tests.helpers.records import RunScript, tile_of


@pytest.fixture(scope="module")
def script():
    return RunScript(samples=3, validations=2)


@pytest.fixture
def logs(written, tmp_path):
    shutil.copytree(written, tmp_path / "logs" / "one" / "sess_record")
    return tmp_path / "logs"


def plugin_of(logdir=None, spec=""):
    return SESSPlugin(SimpleNamespace(logdir=logdir, flags=SimpleNamespace(logdir_spec=spec)))


class Board:
    """Asks the plugin's apps as TensorBoard does: by route."""

    def __init__(self, plugin):
        self.plugin, self.apps = plugin, plugin.get_plugin_apps()

    def __call__(self, route, method="GET", headers=None, **query):
        return self.raw(f"{route}?{urlencode(query)}", method, headers)

    def raw(self, address, method="GET", headers=None):
        return Client(self.apps[address.partition("?")[0]]).open(address, method=method, headers=headers)

    def names(self):
        return [run["name"] for run in self("/runs").get_json()["runs"]]


@pytest.fixture
def board(logs):
    return Board(plugin_of(str(logs)))


RUN = {"run": "one/sess_record"}
ROUTES = {
    "/runs": {}, "/record": RUN, "/image": {**RUN, "sample": 0}, "/maps": {**RUN, "number": 0},
    "/scores": {**RUN, "number": 0},
}  # fmt: skip


class TestAnswers:
    def test_a_validation_that_comes_meanwhile_has_its_samples(self, board, logs, monkeypatch):
        """It may add a sample to the header before its line is there."""
        folder, read = logs / "one" / "sess_record", module.Record.header
        after = (folder / "record.json").read_text()
        header = json.loads(after)
        header["samples"] = header["samples"][:-1]
        lines = (folder / "validations.jsonl").read_text()
        (folder / "record.json").write_text(json.dumps(header))
        (folder / "validations.jsonl").write_text("")

        def written_after_the_first(record):
            found = read(record)
            (folder / "record.json").write_text(after)
            (folder / "validations.jsonl").write_text(lines)
            return found

        monkeypatch.setattr(module.Record, "header", written_after_the_first)
        answer = board("/record", **RUN).get_json()
        named = {number for one in answer["validations"] for number in one["samples"]["sample"]}
        assert all(number < len(answer["record"]["samples"]) for number in named)

    def test_runs_and_record(self, board, logs):
        answer = board("/runs").get_json()
        (run,) = answer["runs"]
        assert (run["name"], run["error"], answer["logdir"]) == ("one/sess_record", None, str(logs))
        answer = board("/record", **RUN).get_json()
        assert answer["record"] == json.loads((logs / "one/sess_record/record.json").read_text())
        assert [one["number"] for one in answer["validations"]] == [0, 1]

    def test_pixels_are_the_recorded_ones(self, board, logs):
        record = logs / "one/sess_record"
        validation = board("/record", **RUN).get_json()["validations"][1]
        pixels = np.array(Image.open(io.BytesIO(board("/maps", number=1, **RUN).data)))
        for sample in range(3):
            x, y, w, h = validation["maps"]["sess"][sample]
            assert np.array_equal(pixels[y : y + h, x : x + w], tile_of(record, 1, sample))
        name = board("/record", **RUN).get_json()["record"]["samples"][2]["image"]
        assert board("/image", sample=2, **RUN).data == (record / name).read_bytes()

    def test_scores(self, board, logs):
        recorded = json.loads((logs / "one/sess_record/maps/000001.json").read_text())
        assert board("/scores", number=1, **RUN).get_json() == recorded
        lines = (logs / "one/sess_record/validations.jsonl").read_text().replace('"maps/000001.json"', "null")
        (logs / "one/sess_record/validations.jsonl").write_text(lines)
        assert board("/scores", number=1, **RUN).get_json() == {"scores": None}

    @pytest.mark.parametrize("route", ROUTES)
    def test_headers(self, board, route):
        answer = board(route, **ROUTES[route])
        kinds = {"/image": "image/jpeg", "/maps": "image/png"}
        assert answer.status_code == 200
        assert answer.mimetype == kinds.get(route, "application/json")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        head = board(route, "HEAD", **ROUTES[route])
        assert (head.status_code, head.data, head.content_length) == (200, b"", len(answer.data))

    def test_the_page(self, board):
        kinds = {".js": "text/javascript", ".css": "text/css", ".json": "application/json"}
        files = [path for path in module._STATIC.iterdir() if path.suffix in kinds]
        assert {path.name for path in files} >= {"index.js", "style.css", "colormap.json"}
        for path in files:
            answer = board(f"/{path.name}")
            assert (answer.data, answer.mimetype) == (path.read_bytes(), kinds[path.suffix])
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert set(board.apps) == {*ROUTES, *(f"/{path.name}" for path in files)}

    def test_gzip_where_it_is_wanted_and_saves_something(self, board):
        plain = board("/record", **RUN)
        packed = board("/record", headers={"Accept-Encoding": "gzip"}, **RUN)
        assert "Content-Encoding" not in plain.headers
        assert packed.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(packed.data) == plain.data
        assert plain.headers["Vary"] == packed.headers["Vary"] == "Accept-Encoding"
        for route, accepted in (("/record", "gzip;q=0"), ("/runs", "gzip"), ("/maps", "gzip"), ("/image", "gzip")):
            assert (
                "Content-Encoding" not in board(route, headers={"Accept-Encoding": accepted}, **ROUTES[route]).headers
            )

    @pytest.mark.parametrize("route", ROUTES)
    def test_what_the_browser_has_is_not_sent_again(self, board, route):
        answer = board(route, **ROUTES[route])
        again = board(route, headers={"If-None-Match": answer.headers["ETag"]}, **ROUTES[route])
        assert (again.status_code, again.data) == (304, b"")

    def test_a_run_that_was_trained_anew_has_its_new_maps(self, board, logs):
        old = board("/maps", number=1, **RUN)
        shutil.rmtree(logs / "one")
        RunScript(samples=3, validations=2, seed=5).write(logs / "one" / "sess_record")
        new = board("/maps", number=1, headers={"If-None-Match": old.headers["ETag"]}, **RUN)
        assert new.status_code == 200
        assert new.data != old.data
        assert "max-age" not in new.headers["Cache-Control"]


ODD_NAMES = (
    "", ".", "..", "../one/sess_record", "one/../one/sess_record", "./one/sess_record", "one//sess_record",
    "one/sess_record/", "/etc/passwd", "one%2Fsess_record", "one/sess_record\0", "\0", "x" * 100_000, "é😀", "one",
    "../../outside/sess_record", "%2e%2e/outside", "one\\sess_record", "<script>alert(1)</script>",
)  # fmt: skip


class TestRefusals:
    @pytest.mark.parametrize("name", ODD_NAMES, ids=range(len(ODD_NAMES)))
    def test_run_names_are_looked_up_and_never_paths(self, board, logs, written, name):
        shutil.copytree(written, logs.parent / "outside" / "sess_record")
        for route in ("/record", "/image", "/maps", "/scores"):
            for run in (name, str(logs / "one/sess_record"), str(logs.parent / "outside/sess_record")):
                answer = board(route, run=run, sample=0, number=0)
                assert answer.status_code == 404
                assert answer.get_json()["error"].startswith("There is no run ")
                assert len(answer.data) < 2000
                assert (answer.mimetype, answer.headers["X-Content-Type-Options"]) == ("application/json", "nosniff")

    @pytest.mark.parametrize(
        "query", ["", "run", "run=%FF%FE", "run=one/sess_record", "&&&=&run=one%2Fsess_record&number"]
    )
    def test_queries_that_say_nothing(self, board, query):
        for route in ("/image", "/maps", "/scores"):
            answer = board.raw(f"{route}?{query}")
            assert answer.status_code == 404
            assert answer.get_json()["error"]

    @pytest.mark.parametrize("number", ["", "x", "1.5", "0x1", "../0", "9" * 100_000, "-", "1e3", "\0"])
    def test_numbers_that_are_none(self, board, number):
        for route in ("/image", "/maps", "/scores"):
            answer = board(route, sample=number, number=number, **RUN)
            assert answer.status_code == 404
            assert answer.get_json()["error"].startswith("Expected a number as ")
            assert len(answer.data) < 2000

    @pytest.mark.parametrize("number", ["-1", "99", "9" * 4000])
    def test_numbers_that_are_not_in_the_record(self, board, number):
        for route in ("/image", "/maps", "/scores"):
            answer = board(route, sample=number, number=number, **RUN)
            assert answer.status_code == 404
            assert " has no " in answer.get_json()["error"]

    def test_a_file_that_is_gone_is_no_wrong_number(self, board, logs):
        for name in ("images", "maps"):
            shutil.rmtree(logs / "one/sess_record" / name)
        for route in ("/image", "/maps", "/scores"):
            answer = board(route, **ROUTES[route])
            assert answer.status_code == 422
            assert "cannot be read" in answer.get_json()["error"]

    def test_links_in_the_log_folder_are_followed_and_those_in_a_record_are_not(self, logs, tmp_path):
        """The user put the first ones there; the second may come with a record from elsewhere."""
        (logs / "one").rename(tmp_path / "elsewhere")
        (logs / "link").symlink_to(tmp_path / "elsewhere")
        (logs / "circle").symlink_to(logs)
        (tmp_path / "secret.png").write_bytes(b"secret")
        maps = tmp_path / "elsewhere/sess_record/maps"
        (maps / "000001.png").unlink()
        (maps / "000001.png").symlink_to(tmp_path / "secret.png")
        board = Board(plugin_of(str(logs)))
        assert board.names() == ["link/sess_record"]
        assert board("/maps", run="link/sess_record", number=0).status_code == 200
        answer = board("/maps", run="link/sess_record", number=1)
        assert answer.status_code == 422
        assert "maps/000001.png lies outside the record" in answer.get_json()["error"]

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
    def test_nothing_is_written(self, board, method):
        for route in (*ROUTES, "/index.js"):
            answer = board(route, method, **ROUTES.get(route, {}))
            assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")
            assert answer.get_json() == {"error": "Only GET is answered."}

    def test_a_damaged_record_leaves_the_others(self, board, logs, written):
        shutil.copytree(written, logs / "bad" / "sess_record")
        (logs / "bad/sess_record/record.json").write_text("[" * 100_000)
        bad, good = board("/runs").get_json()["runs"]
        assert "sess_record: record.json is not JSON" in bad["error"]
        assert good["error"] is None
        answer = board("/record", run="bad/sess_record")
        assert answer.status_code == 422
        assert answer.get_json()["error"] == bad["error"]
        assert board("/record", **RUN).status_code == 200

    def test_what_nobody_thought_of(self, board, monkeypatch):
        def broken(*words):
            raise MemoryError("planted")

        monkeypatch.setattr("sess_lightning.viewer.reading.Record.maps", broken)
        answer = board("/maps", number=0, **RUN)
        assert (answer.status_code, answer.get_json()) == (500, {"error": "MemoryError: planted"})
        assert board("/record", **RUN).status_code == 200


class TestFollowing:
    def test_a_validation_that_is_added_is_there_at_once(self, script, board, logs):
        before = board("/runs").get_json()["runs"][0]["stamp"]
        script.append(logs / "one/sess_record", 2)
        assert len(board("/record", **RUN).get_json()["validations"]) == 3
        assert board("/runs").get_json()["runs"][0]["stamp"] != before
        assert board("/maps", number=2, **RUN).status_code == 200

    def test_a_run_that_is_added_is_there_after_a_while(self, board, logs, written, monkeypatch):
        assert board.names() == ["one/sess_record"]
        shutil.copytree(written, logs / "two" / "sess_record")
        assert board.names() == ["one/sess_record"]  # the folders are not gone through for each answer
        monkeypatch.setattr(module, "_FRESH", -1.0)
        assert board.names() == ["one/sess_record", "two/sess_record"]
        shutil.rmtree(logs / "one")
        assert board.names() == ["two/sess_record"]
        assert board("/record", **RUN).status_code == 404

    def test_many_ask_at_once(self, board):
        with ThreadPoolExecutor(8) as pool:
            answers = pool.map(lambda one: board(one[0], **one[1]), list(ROUTES.items()) * 6)
        assert [answer.status_code for answer in answers] == [200] * 30


class TestLogFolders:
    @pytest.mark.parametrize(
        "logdir",
        [None, "", "missing", "gs://bucket/logs", "s3://bucket", "C:\\logs", "a:/x,b:/y", "~nobody-here/x", "x" * 5000,
         "\0", ",", ":", "a:", "://", "/" * 300, "-"],
    )  # fmt: skip
    @pytest.mark.parametrize("as_spec", [False, True], ids=["logdir", "spec"])
    def test_nothing_to_find(self, logdir, as_spec, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(module, "find_records", limited(module.find_records, tmp_path))
        plugin = plugin_of(None, logdir) if as_spec else plugin_of(logdir)
        assert plugin.is_active() is False
        answer = Board(plugin)("/runs")
        assert answer.status_code in (200, 500)
        assert answer.get_json().get("runs", []) == []

    def test_a_folder_that_may_not_be_looked_at(self, monkeypatch):
        def closed(*words, **more):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("os.stat", closed)
        monkeypatch.setattr("os.scandir", closed)
        assert plugin_of("/closed").is_active() is False
        assert plugin_of("", "a:/closed,b:/closed").is_active() is False

    def test_a_file_or_a_context_with_nothing_in_it(self, tmp_path):
        (tmp_path / "file").touch()
        for plugin in (plugin_of(str(tmp_path / "file")), SESSPlugin(SimpleNamespace()), plugin_of(None, None)):
            assert plugin.is_active() is False
            assert Board(plugin).names() == []

    def test_a_folder_that_comes_later(self, tmp_path, written, monkeypatch):
        monkeypatch.setattr(module, "_FRESH", -1.0)
        plugin = plugin_of(str(tmp_path / "logs, of: mine"))
        assert plugin.is_active() is False
        shutil.copytree(written, tmp_path / "logs, of: mine" / "sess_record")
        assert Board(plugin).names() == ["sess_record"]
        assert plugin.is_active() is True

    def test_the_spec_with_names(self, logs, written):
        other = logs.parent / "other"
        shutil.copytree(written, other / "one" / "sess_record")
        board = Board(plugin_of("", f"a:{logs},b:{other}"))
        assert board.names() == ["a/one/sess_record", "b/one/sess_record"]
        assert board("/record", run="b/one/sess_record").status_code == 200
        assert Board(plugin_of("", f"{logs},{other}")).names() == [
            f"{logs}/one/sess_record",
            f"{other}/one/sess_record",
        ]

    def test_two_records_of_one_name(self, logs, written):
        shutil.copytree(written, logs.parent / "other" / "one" / "sess_record")
        (logs.parent / "other/one/sess_record/record.json").write_text("{}")
        board = Board(plugin_of("", f"a:{logs},a:{logs.parent / 'other'}"))
        assert board.names() == ["a/one/sess_record", "a/one/sess_record (2)"]
        assert board("/record", run="a/one/sess_record").status_code == 200
        assert board("/record", run="a/one/sess_record (2)").status_code == 422


def limited(find_records, folder):
    """`find_records` that keeps to a folder: the whole machine is not gone through."""
    return lambda root: find_records(root) if root.resolve().is_relative_to(folder) else {}


class TestActive:
    def test_with_a_record_and_without(self, logs, tmp_path):
        assert plugin_of(str(logs)).is_active() is True
        (tmp_path / "empty").mkdir()
        assert plugin_of(str(tmp_path / "empty")).is_active() is False

    def test_a_slow_file_system_does_not_keep_tensorboard_waiting(self, logs, monkeypatch):
        find, go = module.find_records, threading.Event()

        def slow(root):
            go.wait(30)
            return find(root)

        monkeypatch.setattr(module, "find_records", slow)
        plugin = plugin_of(str(logs))
        for _ in range(3):
            start = time.monotonic()
            assert plugin.is_active() is False
            assert time.monotonic() - start < 0.2
        assert plugin._runs._looking.is_alive()  # one looks for all of them
        go.set()
        plugin._runs._looking.join(30)
        assert plugin.is_active() is True

    @pytest.mark.parametrize("error", [OSError, ValueError, RecursionError, MemoryError])
    def test_it_never_raises(self, logs, monkeypatch, error):
        def broken(root):
            raise error("planted")

        monkeypatch.setattr(module, "find_records", broken)
        board = Board(plugin_of(str(logs)))
        assert board.plugin.is_active() is False
        answer = board("/runs")
        assert answer.status_code == 500
        assert "planted" in answer.get_json()["error"]

    def test_no_thread_can_be_had(self, logs, monkeypatch):
        def broken(thread):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr("threading.Thread.start", broken)
        assert plugin_of(str(logs)).is_active() is False
