"""`sess-lightning report`: which records it takes, what it writes and says; neither it nor help loads torch."""

import json
import re
import subprocess
import sys

import pytest

import sess_lightning
import sess_lightning.cli as cli
from sess_lightning.cli.main import COMMANDS
from tests.helpers.records import RunScript


@pytest.fixture
def runs(tmp_path):
    """A log folder with the records of two runs, one of them of two loaders."""
    folder = tmp_path / "runs"
    for seed, name in enumerate(("version_0/sess_record", "version_1/sess_record", "version_1/sess_photos_record")):
        RunScript(samples=3, validations=2, seed=seed).write(folder / name)
    return folder


@pytest.fixture
def report(tmp_path, capsys):
    """Runs the command and gives exit code, stdout and stderr."""

    def command(*words, out=tmp_path / "report.html"):
        code = cli.main(["report", *map(str, words), *([f"--out={out}"] if out else [])])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return command


def shown(file):
    """Names of the records in a page, and what is wrong with each."""
    content = re.search(r'<script type="text/plain" id="sess-data">(.*)</script>', file.read_text())[1]
    return {run["name"]: run["error"] for run in json.loads(content)["runs"]}


def test_all_records_below_a_folder_are_taken(runs, report, tmp_path):
    code, out, err = report(runs)
    assert (code, err) == (0, "")
    assert re.fullmatch(rf"{tmp_path}/report\.html: 3 records, \d+ KB; open it in a browser\.\n", out)
    assert shown(tmp_path / "report.html") == dict.fromkeys(
        ("version_0/sess_record", "version_1/sess_photos_record", "version_1/sess_record")
    )


def test_several_words_in_their_order_each_record_once(runs, report, tmp_path):
    second = runs / "version_1" / "sess_record"
    assert report(second, runs / "version_0", second / ".." / "sess_record")[0] == 0
    assert list(shown(tmp_path / "report.html")) == ["version_1/sess_record", "version_0/sess_record"]


def test_the_file_lies_in_the_current_folder_and_is_replaced(runs, report, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sess_report.html").write_text("an earlier one")
    code, out, _ = report(runs / "version_0", out=None)
    assert (code, out.split(":")[0]) == (0, "sess_report.html")
    assert "1 record," in out
    assert len(shown(tmp_path / "sess_report.html")) == 1


def test_options_may_stand_between_runs(runs, tmp_path):
    words = ["report", str(runs / "version_0"), "--out", str(tmp_path / "x.html"), str(runs / "version_1")]
    assert cli.main(words) == 0
    assert len(shown(tmp_path / "x.html")) == 3


@pytest.mark.parametrize(
    ("words", "out", "said"),
    [
        ([], "x.html", "the following arguments are required: RUN. See sess-lightning report --help."),
        (["runs", "--outt=x"], "x.html", "unrecognized arguments: --outt=x. See sess-lightning report --help."),
        (["missing"], "x.html", "there is no folder 'missing'."),
        (["file"], "x.html", "'file' is a file, not a folder."),
        (
            ["empty"],
            "x.html",
            "there is no record in 'empty' or below it. Train with SESSCallback(), which writes one ",
        ),
        (["runs", "empty"], "x.html", "there is no record in 'empty' or below it."),
        (["runs"], "empty", "--out 'empty' is a folder. Pass the name of a file, e.g. 'empty/sess_report.html'."),
        (["runs"], "no/x.html", "the folder of --out 'no/x.html' is not there. Make it, or pass another file."),
        (["runs"], "file/x.html", "the folder of --out 'file/x.html' is not there."),
    ],
)
def test_what_is_wrong_is_said_in_one_line_before_work(runs, report, tmp_path, monkeypatch, words, out, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sess_lightning.cli.report.write_report", lambda *_, **__: pytest.fail("worked"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    code, printed, err = report(*words, out=out)
    assert (code, printed) == (2, "")
    assert err.startswith(f"sess-lightning report: error: {said}")
    assert err.count("\n") == 1


def test_a_file_that_cannot_be_written_ends_in_one_line(runs, report, tmp_path):
    code, _, err = report(runs, out=tmp_path / ("x" * 300))
    assert (code, err.count("\n")) == (2, 1)
    assert "File name too long" in err


def damage(record, file, content=b"{"):
    (record / file).write_bytes(content)


@pytest.mark.parametrize("file", ["record.json", "validations.jsonl"])
def test_a_damaged_record_is_named_and_the_others_are_shown(runs, report, tmp_path, file):
    broken = runs / "version_0" / "sess_record"
    damage(broken, file, b"\xff\n")
    code, out, err = report(runs)
    assert code == 0
    assert "2 records" in out
    assert err.startswith(f"sess-lightning report: {broken} is left out: ")
    assert err.count("\n") == 1
    wrong = shown(tmp_path / "report.html")
    assert [name for name, error in wrong.items() if error] == ["version_0/sess_record"]


def test_maps_that_cannot_be_read_cost_their_validation_alone(runs, report, tmp_path):
    damage(runs / "version_0" / "sess_record", "maps/000001.json", b"\xff\n")
    code, _, err = report(runs)
    assert (code, err) == (0, "")
    assert not any(shown(tmp_path / "report.html").values())
    data = re.search(r'id="sess-data">(.*?)</script>', (tmp_path / "report.html").read_text(), re.DOTALL).group(1)
    missing = {run["name"]: run["missing"] for run in json.loads(data)["runs"]}
    assert list(missing.pop("version_0/sess_record")) == ["1"]
    assert not any(missing.values())


def test_where_all_are_damaged_nothing_is_written(runs, report, tmp_path):
    (tmp_path / "report.html").write_text("an earlier one")
    broken = sorted(runs.rglob("*_record"))
    for record in broken:
        damage(record, "record.json")
    code, out, err = report(runs)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(
        "sess-lightning report: error: all 3 records are damaged. sess_record: record.json is not JSON"
    )
    assert report(broken[0])[2].startswith("sess-lightning report: error: the only record is damaged. ")
    assert (tmp_path / "report.html").read_text() == "an earlier one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "runs"]


def test_neither_help_nor_a_report_loads_torch(runs, tmp_path):
    program = (
        "import sys\nfrom sess_lightning.cli import main\n"
        f"print([main(words) for words in (['--help'], ['-h'], ['--version'], [], ['nonsense'], ['report'],\n"
        f"       ['report', {str(runs)!r}, '--out', {str(tmp_path / 'x.html')!r}])])\n"
        "print([name for name in ('torch', 'numpy', 'lightning', 'jsonargparse', 'PIL') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["[0, 0, 0, 2, 2, 2, 0]", "[]"]
    assert (tmp_path / "x.html").is_file()


def test_help_lists_the_commands(capsys):
    assert cli.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "usage: sess-lightning COMMAND ..."
    assert [line.split()[0] for line in lines if line.startswith("  ") and line.split()[0] in COMMANDS] == [*COMMANDS]
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"sess-lightning {sess_lightning.__version__}\n"


def test_without_a_command_or_with_an_unknown_one_it_is_an_error(capsys):
    assert cli.main([]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.splitlines()[0]) == ("", "usage: sess-lightning COMMAND ...")
    assert cli.main(["fti"]) == 2
    assert capsys.readouterr().err == f"sess-lightning fti: error: no such command; there are {', '.join(COMMANDS)}.\n"


@pytest.mark.parametrize("name", ["fit", "validate", "test", "predict", "explain", "benchmark", "report"])
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([name, "--help"])
    assert end.value.code == 0
    assert f" {name} " in capsys.readouterr().out.partition("\n\n")[0]


def test_options_before_the_command_go_to_lightning(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["--config=missing.yaml", "fit"])
    assert end.value.code == 2
    assert "missing.yaml" in capsys.readouterr().err


def test_the_names_of_the_package_stay(capsys):
    """A submodule and a function have the name `main`; importing the commands must not swap them."""
    from sess_lightning.cli import commands

    assert cli.summary is commands.summary
    assert callable(cli.main)
    for module, name in ((cli, "sumary"), (sys.modules["sess_lightning.cli.main"], "CLI")):
        with pytest.raises(AttributeError, match=f"has no attribute '{name}'"):
            getattr(module, name)
