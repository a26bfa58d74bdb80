"""The tab "SESS" of TensorBoard: serves the viewer's page and the records below the log folder, read only.

TensorBoard imports this module at its start, without a guard. So it imports little, does nothing before it is asked,
and catches whatever it meets.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import count
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from tensorboard.plugins import base_plugin
from werkzeug import wrappers

from sess_lightning.viewer.reading import DamagedRecord, NotInRecord, Record, find_records

_STATIC = Path(__file__).parent / "static"
_KINDS = {".js": "text/javascript", ".css": "text/css", ".json": "application/json"}
_FRESH = 5.0  # seconds that a listing of the log folder is good for
_GZIP_FROM = 2048  # bytes

Answer = tuple[bytes, str]  # content, its type


class Missing(LookupError):  # noqa: N818 - a state, as KeyError's
    """What was asked for is not there."""


class Runs:
    """The records below the log folders, looked up anew every few seconds at most.

    Args:
        roots: the log folders, each with what stands before the names of its records.
    """

    def __init__(self, roots: Sequence[tuple[str, Path]]) -> None:
        self.roots = roots
        self._records: dict[str, Record] = {}
        self._read_at = self._failed_at = float("-inf")
        self._lock = Lock()
        self._looking: Thread | None = None

    def __getitem__(self, name: str) -> Record:
        """Returns a record by its name in the listing; no path is made of the name."""
        for records in (lambda: self._records, self.all):
            record = records().get(name)
            if record is not None:
                return record
        raise Missing(f"There is no run {_brief(name)}.")

    def all(self) -> dict[str, Record]:
        """Returns all records by name."""
        with self._lock:
            if time.monotonic() - self._read_at > _FRESH:
                found: dict[str, Record] = {}
                for before, root in self.roots:
                    for name, folder in find_records(root).items():
                        whole = _unlike(found, f"{before}/{name}" if before else name)
                        old = self._records.get(whole)
                        found[whole] = old if old is not None and old.folder == folder else Record(folder)
                self._records, self._read_at = found, time.monotonic()
            return self._records

    def any(self) -> bool:
        """Whether a record is known; looks for one in the background, as TensorBoard waits for the answer."""
        since = time.monotonic() - max(self._read_at, self._failed_at)
        if not self._records and since > _FRESH and not self._is_looking():
            self._looking = Thread(target=self._look, daemon=True)
            self._looking.start()
            self._looking.join(0.05)  # a small folder is read by then
        return bool(self._records)

    def _is_looking(self) -> bool:
        return self._looking is not None and self._looking.is_alive()

    def _look(self) -> None:
        try:
            self.all()
        except Exception:
            self._failed_at = time.monotonic()  # the next look is as far away as after any other


class SESSPlugin(base_plugin.TBPlugin):
    """TensorBoard's side of the viewer.

    Args:
        context: of TensorBoard.
    """

    plugin_name = "sess"

    def __init__(self, context: base_plugin.TBContext) -> None:
        logdir = getattr(context, "logdir", None)
        spec = getattr(getattr(context, "flags", None), "logdir_spec", None)
        self._logdir = str(logdir or spec or "")
        self._runs = Runs(_folder(self._logdir) if logdir else _folders(self._logdir))

    def is_active(self) -> bool:
        """Whether the tab is shown among the active ones: where there is a record."""
        try:
            return self._runs.any()
        except Exception:
            return False

    def frontend_metadata(self) -> base_plugin.FrontendMetadata:
        """Returns where the page's module is, and the name of the tab."""
        return base_plugin.FrontendMetadata(es_module_path="/index.js", tab_name="SESS")

    def get_plugin_apps(self) -> dict[str, Callable[..., Any]]:
        """Returns what serves each route below `/data/plugin/sess`."""
        routes: dict[str, Callable[[Mapping[str, str]], Answer]] = {
            "/runs": self._list,
            "/record": self._record,
            "/image": self._image,
            "/maps": lambda words: (self._asked(words).maps(_number(words, "number")), "image/png"),
            "/scores": lambda words: (
                self._asked(words).scores(_number(words, "number")) or b'{"scores":null}',
                _KINDS[".json"],
            ),
        }
        try:
            files = [path for path in _STATIC.iterdir() if path.suffix in _KINDS]
        except OSError:
            files = []
        routes |= {f"/{path.name}": _static(path) for path in files}
        return {route: _guarded(answer) for route, answer in routes.items()}

    def _list(self, words: Mapping[str, str]) -> Answer:
        runs = []
        for name, record in self._runs.all().items():
            error = None
            try:
                record.header()
            except DamagedRecord as damaged:
                error = str(damaged)
            runs.append({"name": name, "stamp": record.stamp(), "error": error})
        return _json({"runs": runs, "logdir": self._logdir})

    def _record(self, words: Mapping[str, str]) -> Answer:
        return "".join(self._asked(words).as_json()).encode(), _KINDS[".json"]

    def _image(self, words: Mapping[str, str]) -> Answer:
        content = self._asked(words).image(_number(words, "sample"))
        kinds = {b"\xff\xd8": "image/jpeg", b"\x89P": "image/png", b"RI": "image/webp"}
        return content, kinds.get(content[:2], "application/octet-stream")

    def _asked(self, words: Mapping[str, str]) -> Record:
        return self._runs[words.get("run", "")]


def _folder(logdir: str) -> list[tuple[str, Path]]:
    """The folder of `--logdir`; none where it is not on this machine."""
    return [] if "://" in logdir or not logdir else [("", Path(os.path.expanduser(logdir)))]


def _folders(spec: str) -> list[tuple[str, Path]]:
    """The folders of `--logdir_spec`, `name:folder,folder`, as TensorBoard takes it apart.

    One without a name has its path as name. Nothing is asked of the file system: TensorBoard does not start where this
    raises, and a list of folders can be longer than a path may be.
    """
    roots = []
    for part in spec.split(","):
        named = re.fullmatch(r"(?![A-Za-z]:\\)([^/:][^:]*):(.*)", part) if "://" not in part else None
        name, folder = named.groups() if named else (part, part)
        roots += [(name, root) for _, root in _folder(folder)]
    return roots


def _unlike(taken: Collection[str], name: str) -> str:
    """The name, with a number behind it where it is taken: two folders may have been given one name."""
    names = (f"{name} ({number})" if number > 1 else name for number in count(1))
    return next(one for one in names if one not in taken)


def _number(words: Mapping[str, str], name: str) -> int:
    try:
        return int(words[name])
    except (KeyError, ValueError):
        raise Missing(f"Expected a number as {name!r}, but got {_brief(words.get(name))}.") from None


def _brief(text: str | None) -> str:
    return repr(text) if text is None or len(text) <= 200 else f"{text[:200]!r}..."


def _json(content: Any) -> Answer:
    return json.dumps(content, separators=(",", ":")).encode(), _KINDS[".json"]


def _static(path: Path) -> Callable[[Mapping[str, str]], Answer]:
    return lambda words: (path.read_bytes(), _KINDS[path.suffix])


def _guarded(answer: Callable[[Mapping[str, str]], Answer]) -> Callable[..., Iterable[bytes]]:
    """Make a WSGI application of what answers the words of a query; errors become messages."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            response = _response(wrappers.Request(environ), answer)
        except Exception as error:  # of whatever kind: TensorBoard and its other tabs go on
            response = _failure(500, f"{type(error).__name__}: {error}")
        return response(environ, start_response)

    return application


def _response(request: wrappers.Request, answer: Callable[[Mapping[str, str]], Answer]) -> wrappers.Response:
    if request.method not in ("GET", "HEAD"):
        return _failure(405, "Only GET is answered.", Allow="GET, HEAD")
    try:
        content, kind = answer(request.args)
    except (Missing, NotInRecord) as error:
        return _failure(404, str(error))
    except DamagedRecord as error:
        return _failure(422, str(error))
    # The browser keeps what it got, and asks each time whether it is still that: a run that was deleted and trained
    # anew has other maps at the same address.
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, no-cache"}
    tag = sha256(content).hexdigest()[:32]
    if not kind.startswith("image/"):
        headers["Vary"] = "Accept-Encoding"
        if len(content) >= _GZIP_FROM and request.accept_encodings.quality("gzip") > 0:
            content, tag = gzip.compress(content, compresslevel=1, mtime=0), f"{tag}-gzip"
            headers["Content-Encoding"] = "gzip"
    response = wrappers.Response(content, 200, headers, content_type=kind)
    response.set_etag(tag)
    return response.make_conditional(request)


def _failure(status: int, message: str, **more: str) -> wrappers.Response:
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", **more}
    return wrappers.Response(json.dumps({"error": message}), status, headers, content_type=_KINDS[".json"])
