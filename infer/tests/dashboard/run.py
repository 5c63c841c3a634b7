"""The dashboard in headless Chromium: what it shows, signing in, a phone, and no other host.

    python3 run.py INFER [--out DIR]    # DIR gets screenshots to look at

INFER is the program. Exit code 69 if there is no Chromium.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import urllib.request

from playwright.sync_api import expect, sync_playwright

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
PHONE = {"width": 390, "height": 844}


def start(program, *flags):
    """Starts the service on a free port; the process and its address."""
    arguments = [program, "serve", "--policy", "greedy", "--world", EXAMPLES / "small.toml", "--listen", "127.0.0.1:0"]
    process = subprocess.Popen([*arguments, *flags], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    line = process.stdout.readline()
    assert line.startswith("listening on "), line
    return process, line.split()[-1]


def send(method, url, body, token=None):
    headers = {"content-type": "application/json"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def fill(url, token=None):
    """A fleet, its telemetry and two decisions."""
    state = json.loads((EXAMPLES / "request.json").read_text())
    send("PUT", f"{url}/v1/fleet", state, token)
    now = state["state"]["now_ns"]
    sample = {"kind": "sample", "host": 0, "utilization": 0.6, "power_w": 17.0}
    for seconds in (1, 2):
        deltas = [{**sample, "at_ns": now + seconds * 1_000_000_000}]
        send("POST", f"{url}/v1/telemetry", {"schema": 1, "now_ns": now + seconds * 1_000_000_000, "deltas": deltas}, token)
    new = {"id": 1000, "application": "detect", "context_tokens": 0}
    asked = {"schema": 1, "now_ns": now + 2_500_000_000, "epoch": "arrival", "requests": [new]}
    send("POST", f"{url}/v1/decisions", asked, token)
    send("POST", f"{url}/v1/decisions", state, token)


class Watched:
    """A page whose errors and requests are watched."""

    def __init__(self, browser, url, **options):
        self.url, self.errors, self.elsewhere = url, [], []
        context = browser.new_context(**options)
        self.page = context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self.console)
        self.page.on("request", self.request)
        self.page.goto(url)

    def console(self, message):
        # Chromium itself notes refused requests; which of them are meant is checked below.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.errors.append(message.text)

    def request(self, request):
        if not request.url.startswith((self.url, "data:")):
            self.elsewhere.append(request.url)

    def end(self, shot=None):
        if shot:
            self.page.screenshot(path=shot, full_page=True)
        width = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert width <= 0, f"the page is {width} px too wide"
        assert not self.errors, self.errors
        assert not self.elsewhere, self.elsewhere
        self.page.context.close()


def shows_what_there_is(browser, url, out):
    watched = Watched(browser, url, viewport={"width": 1280, "height": 900})
    page = watched.page
    expect(page.locator("#status")).to_have_text("live")
    expect(page.locator("#world")).to_have_text("small")
    expect(page.locator("#hosts li")).to_have_count(3)
    expect(page.locator("#tiles")).to_contain_text("USD/h")
    expect(page.locator("#drift")).to_contain_text("power (W)")
    expect(page.locator("#models")).to_contain_text("greedy")
    page.locator("#hosts button").first.click()
    expect(page.locator("#host-detail")).to_contain_text("two-cores-near-01 (two-cores, near)")
    page.select_option("#host-filter", "busy")
    expect(page.locator("#hosts-shown")).to_contain_text("of 3")
    page.select_option("#host-filter", "all")
    decision = page.locator("#decisions details").first
    decision.locator("summary").click()
    expect(decision).to_contain_text("the decision against doing nothing")
    expect(decision).to_contain_text("futures of the twin")
    # Two samples of the service's history, one every 5 s, make a chart.
    expect(page.locator("#charts svg").first).to_be_visible(timeout=20_000)
    expect(decision).to_have_attribute("open", "")
    watched.end(out and out / "dashboard.png")


def fits_a_phone(browser, url, out):
    watched = Watched(browser, url, viewport=PHONE, device_scale_factor=2, has_touch=True, color_scheme="dark")
    expect(watched.page.locator("#hosts li")).to_have_count(3)
    watched.page.locator("#hosts button").last.tap()
    expect(watched.page.locator("#host-detail")).to_be_visible()
    watched.page.locator("#decisions summary").first.tap()
    expect(watched.page.locator("#decisions details").first).to_contain_text("doing nothing")
    watched.end(out and out / "dashboard-phone.png")


def is_empty_where_nothing_is_known(browser, url, out):
    watched = Watched(browser, url)
    expect(watched.page.locator("#no-fleet")).to_be_visible()
    expect(watched.page.locator("#no-decisions")).to_be_visible()
    watched.end(out and out / "dashboard-empty.png")


def asks_for_a_token(browser, url, token, out):
    watched = Watched(browser, url)
    page = watched.page
    expect(page.locator("#sign-in")).to_be_visible()
    page.fill("#token", "wrong")
    page.click("#sign-in button")
    expect(page.locator("#sign-in-problem")).to_contain_text("not accepted")
    if out:
        page.screenshot(path=out / "dashboard-sign-in.png")
    page.fill("#token", token)
    page.click("#sign-in button")
    expect(page.locator("#hosts li")).to_have_count(3)
    watched.end()


def says_that_the_service_is_gone(browser, url, process):
    watched = Watched(browser, url)
    expect(watched.page.locator("#status")).to_have_text("live")
    process.kill()
    process.wait()
    expect(watched.page.locator("#status")).to_contain_text("no answer", timeout=20_000)
    watched.page.context.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if not chromium:
        print("dashboard: there is no Chromium: install it, or name it in CHROMIUM", file=sys.stderr)
        sys.exit(69)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        made = subprocess.run(
            [args.program, "token", "new", "--name", "test", "--role", "decide"], capture_output=True, text=True, check=True
        ).stdout
        line = next(text for text in made.splitlines() if "sha256:" in text)
        token = next(text for text in made.split() if "sha256:" not in text and len(text) > 30)
        tokens = pathlib.Path(scratch) / "tokens"
        tokens.write_text(line + "\n")
        tokens.chmod(0o600)
        process, url = start(args.program, "--log-folder", f"{scratch}/log")
        empty, empty_url = start(args.program, "--log-folder", f"{scratch}/empty")
        closed, closed_url = start(args.program, "--auth-tokens-file", str(tokens), "--log-folder", f"{scratch}/closed")
        try:
            fill(url)
            fill(closed_url, token)
            shows_what_there_is(browser, url, args.out)
            fits_a_phone(browser, url, args.out)
            is_empty_where_nothing_is_known(browser, empty_url, args.out)
            asks_for_a_token(browser, closed_url, token, args.out)
            says_that_the_service_is_gone(browser, url, process)
        finally:
            for each in (process, empty, closed):
                each.kill()
        browser.close()
    print("dashboard: everything holds")


main()
