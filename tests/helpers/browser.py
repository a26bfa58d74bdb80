"""Headless Chromium, driven over the WebDriver protocol by the standard library alone."""

import base64
import json
import re
import shutil
import subprocess
import time
from contextlib import contextmanager
from urllib.request import Request, urlopen

import pytest

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
]  # fmt: skip

needs_chromium = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")), reason="needs chromium and chromedriver"
)


class Page:
    """One browser window."""

    def __init__(self, address):
        self._address = address

    def call(self, method, command, **body):
        data = json.dumps(body).encode() if method == "POST" else None
        request = Request(  # noqa: S310
            f"{self._address}/{command}".rstrip("/"), data, {"Content-Type": "application/json"}, method=method
        )
        with urlopen(request, timeout=120) as response:  # noqa: S310
            return json.load(response)["value"]

    def open(self, url):
        self.call("POST", "url", url=url)

    def run(self, script):
        return self.call("POST", "execute/sync", script=script, args=[])

    def wait(self, script, seconds=60):
        """Until the script gives something that counts as true."""
        for _ in range(10 * seconds):
            value = self.run(script)
            if value:
                return value
            time.sleep(0.1)
        raise AssertionError(f"{script} stays {value!r}")

    def screenshot(self, file):
        file.write_bytes(base64.b64decode(self.call("GET", "screenshot")))


@contextmanager
def browser(folder, width=1600, height=1400):
    """A page of a fresh browser whose files lie in a folder."""
    driver = subprocess.Popen([shutil.which("chromedriver"), "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        port = next(filter(None, (re.search(r"on port (\d+)\.", line) for line in driver.stdout)))[1]
        arguments = [*FLAGS, f"--user-data-dir={folder}", f"--window-size={width},{height}"]
        options = {"binary": shutil.which("chromium"), "args": arguments}
        wanted = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
        session = Page(f"http://127.0.0.1:{port}").call("POST", "session", capabilities=wanted)["sessionId"]
        page = Page(f"http://127.0.0.1:{port}/session/{session}")
        try:
            yield page
        finally:
            page.call("DELETE", "")
    finally:
        driver.terminate()
        driver.wait(timeout=30)
        driver.stdout.close()
