"""Whatever stands in a record: it is read, or refused with a sentence; the page is written in any case."""

import json
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sess_lightning.viewer.reading import DamagedRecord, Record
from sess_lightning.viewer.report import write_report
from tests.helpers.records import RunScript

FILES = ("record.json", "validations.jsonl", "maps/000000.json", "images", "maps/000000.png")
ODD = st.one_of(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    ),
    st.sampled_from([10**400, -(10**400), 2**64, "</script><script>", "\ud800", "\0", "../../x", "images/../x.jpg"]),
)
quick = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A good record, and a folder to damage it in."""
    folder = tmp_path_factory.mktemp("fuzz")
    return RunScript(samples=2, validations=2).write(folder / "good"), folder


def damaged(written, file, content):
    good, folder = written
    shutil.rmtree(folder / "bad", ignore_errors=True)
    bad = shutil.copytree(good, folder / "bad")
    (bad / file).write_bytes(content)
    return bad


def holds(bad):
    """Nothing but answers and `DamagedRecord`, and a page whose data browsers can read."""
    record = Record(bad)
    asked = [record.header, record.validations, record.stamp]
    asked += [lambda i=i, ask=ask: ask(i) for i in range(2) for ask in (record.image, record.maps, record.scores)]
    for ask in asked:
        try:
            answer = ask()
        except DamagedRecord as error:
            assert str(error).startswith("bad: ")  # noqa: PT017 - whether it is raised is open
        else:
            strict(answer if isinstance(answer, bytes) and answer[:1] == b"{" else json.dumps(answer, default=str))
    page = bad.parent / "page.html"
    write_report([bad, bad.parent / "good"], page)
    text = page.read_bytes().decode("utf-8")
    data = strict(text.partition('id="sess-data">')[2].partition("</script>")[0])
    assert [run["error"] is None for run in data["runs"]][1]
    assert text.count("</script>") == text.count("<script")


def strict(text):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def content_of(written, file):
    good, _ = written
    path = next(good.glob(f"{file}/*")) if file == "images" else good / file
    return path.relative_to(good), path.read_bytes()


@quick
@given(data=st.data(), file=st.sampled_from(FILES))
def test_bytes_that_change(written, data, file):
    name, content = content_of(written, file)
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(content) - 1))] = data.draw(
            st.sampled_from(b'\0\xff"{}[],:-e09<n') | st.integers(0, 255)
        )
    holds(damaged(written, name, bytes(changed)))


@quick
@given(data=st.data(), file=st.sampled_from(FILES))
def test_files_that_are_cut(written, data, file):
    name, content = content_of(written, file)
    holds(damaged(written, name, content[: data.draw(st.integers(0, len(content)))]))


def paths(content, before=()):
    """Of all values in JSON."""
    yield before
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield from paths(value, (*before, key))


@quick
@given(data=st.data(), file=st.sampled_from(FILES[:3]), odd=ODD)
def test_values_that_are_others(written, data, file, odd):
    name, content = content_of(written, file)
    first, *others = content.splitlines()
    parsed = json.loads(first)
    path = data.draw(st.sampled_from(list(paths(parsed))))
    if path:
        inner = parsed
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = odd
    else:
        parsed = odd
    holds(damaged(written, name, b"\n".join([json.dumps(parsed).encode(), *others, b""])))


@pytest.mark.parametrize("depth", [20, 900, 990, 1200, 100_000])
@pytest.mark.parametrize(("opened", "closed"), ["[]", ('{"a":', "}")])
def test_deep_nesting(written, depth, opened, closed):
    good, _ = written
    text = (good / "record.json").read_text()
    deep = f'"settings": {opened * depth}1{closed * depth}, "sttings":'
    holds(damaged(written, "record.json", text.replace('"settings":', deep, 1).encode()))


def test_half_a_character(written):
    """JSON can name one that no file in UTF-8 can hold."""
    good, _ = written
    text = (good / "record.json").read_text()
    assert '"name": "batch 0' in text
    holds(damaged(written, "record.json", text.replace('"name": "batch 0', r'"name": "\ud800', 1).encode()))
    holds(damaged(written, "record.json", text.replace("images/", r"\udfff/", 1).encode()))
