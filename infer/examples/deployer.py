#!/usr/bin/env python3
"""A deployer: asks the decision service where each request should run, and sends it there.

It keeps the service in step by telemetry: what starts, what ends, how busy the hosts are. Each host
has an HTTP worker. With --azure it also turns the VMs on and off, as is decided at each interval.
Only the standard library is used. From the repository's root:

    cargo run -p infer -- serve --policy greedy --world infer/examples/small.toml
    cargo run -p infer --example worker -- --world infer/examples/small.toml
    python3 infer/examples/deployer.py --world infer/examples/small.toml \\
        --worker http://127.0.0.1:900{1,2,3}
"""

import argparse
import http.client
import json
import os
import queue
import random
import sys
import threading
import time
import tomllib
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor

SCHEMA = 1
UNDER_WAY = 64  # requests under way at the same time; further ones arrive later
ATTEMPTS = 5  # placements of a request whose workers fail
PATIENCE_S = 30.0  # how long the service may be away, in real time
ANSWER_LIMIT_S = 60.0  # how long an answer may take, in real time
LOOKS = 5  # looks at the workers in an interval
POLL_S = 0.005  # how often a host that boots is looked at
AGAIN_S = 0.1  # the wait before it is asked again where nobody has answered
BOOTS = 3  # boot times after which a worker that does not answer is off


NO_ANSWER = (OSError, http.client.HTTPException, ValueError)


class Refused(Exception):
    """What was asked for is refused, or nobody has answered for too long."""


class Lost(Exception):
    """A worker does not answer: whatever is on its host is lost."""

    def __init__(self, place):
        super().__init__(f"host {place} does not serve")
        self.place = place


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise Refused(error) from error


def note(text):
    print(text, file=sys.stderr, flush=True)


def send(method, url, body=None, token=None):
    """Sends `body` as JSON, and gives the answer."""
    headers = {"content-type": "application/json"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=ANSWER_LIMIT_S) as answer:
        return json.loads(answer.read() or b"null")


def ask(method, url, body=None, token=None):
    """As `send`, again and again while nobody answers, or who does asks to come back later."""
    began = time.monotonic()
    while True:
        try:
            return send(method, url, body, token)
        except urllib.error.HTTPError as error:
            problem = f"{method} {url}: {error.code} {error.read().decode(errors='replace')}"
            if error.code not in (429, 503):
                raise Refused(problem) from error
            wait_s = float(error.headers.get("retry-after", 1))
        except NO_ANSWER as error:
            problem, wait_s = f"{method} {url}: {error}", AGAIN_S
        if time.monotonic() - began + wait_s > PATIENCE_S:
            raise Refused(problem)
        time.sleep(wait_s)


class Azure:
    """Turns VMs on and off through the Resource Manager, as a service principal."""

    def __init__(self, url, group):
        self.vms = f"{url.rstrip('/')}{group}/providers/Microsoft.Compute/virtualMachines"
        try:
            tenant, client, secret = (
                os.environ[f"AZURE_{name}"] for name in ("TENANT_ID", "CLIENT_ID", "CLIENT_SECRET")
            )
        except KeyError as error:
            raise Refused(f"--azure: the environment has no {error.args[0]}") from error
        authority = os.environ.get("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com")
        self.tokens = f"{authority.rstrip('/')}/{tenant}/oauth2/v2.0/token"
        form = {
            "grant_type": "client_credentials",
            "client_id": client,
            "client_secret": secret,
            "scope": "https://management.azure.com/.default",
        }
        self.form = urllib.parse.urlencode(form).encode()

    def turn(self, vm, on):
        try:
            with urllib.request.urlopen(self.tokens, self.form, ANSWER_LIMIT_S) as answer:
                token = json.load(answer)["access_token"]
        except NO_ANSWER as error:
            raise Refused(f"{self.tokens}: {error}") from error
        verb = "start" if on else "deallocate"
        ask("POST", f"{self.vms}/{vm}/{verb}?api-version=2024-07-01", token=token)


class Host:
    """A host: its worker, whether that answers, and what was decided."""

    def __init__(self, worker, boot_s):
        self.worker, self.boot_s = worker.rstrip("/"), boot_s
        self.up = self.wanted = False
        self.starts_until_ns = 0  # until then it may be booting


class Deployer:
    """Places requests and runs them. What it knows and what the service is told change together,
    with the lock: the service hears of things in the order in which they happen here."""

    def __init__(self, args, world):
        self.args, self.world, self.began = args, world, time.monotonic()
        self.token = read(args.token_file).strip() if args.token_file else None
        self.azure = Azure(args.azure, args.group) if args.azure else None
        self.lock = threading.RLock()
        self.requests = {}  # those that have arrived and not ended, as the service is told of them
        self.runs = {}  # how they are deployed; those that are not here wait
        self.active = []  # deployments that are being carried out, the superseded ones included
        self.attempts = {}  # how often requests were lost
        self.orders = {}  # hosts that are to be turned on or off
        self.ended = queue.Queue()  # what became of requests, in the end
        boots_s = {size["name"]: size["boot_s"] for size in world["sizes"]}
        sizes = [group["size"] for group in world["hosts"] for _ in range(group.get("count", 1))]
        if len(sizes) != len(args.worker):
            problem = f"the world has {len(sizes)} hosts, found {len(args.worker)} workers"
            raise Refused(f"--worker: {problem}")
        self.hosts = [Host(worker, boots_s[size]) for worker, size in zip(args.worker, sizes)]
        for host, sample in zip(self.hosts, self.samples()):
            host.up = host.wanted = sample is not None

    def now_ns(self):
        return int((time.monotonic() - self.began) * self.args.speed * 1e9)

    def call(self, method, path, body):
        named = {"schema": SCHEMA, "world": {"name": self.world["name"]}, **body}
        return ask(method, self.args.service.rstrip("/") + path, named, self.token)

    def tell(self, *deltas):
        self.call("POST", "/v1/telemetry", {"now_ns": self.now_ns(), "deltas": deltas})

    def put(self):
        """Tells the whole state: nothing runs yet. The answer has the names of the hosts."""
        now_ns, applications = self.now_ns(), self.world["applications"]
        state = {
            "now_ns": now_ns,
            "epoch": "boundary",
            "next_boundary_ns": now_ns + int(self.world["interval_s"] * 1e9),
            "next_request": 0,
            "hosts": [
                {"lifecycle": "on" if host.up else "off", "queue": [], "resident": []}
                for host in self.hosts
            ],
            "requests": [],
            "transfers": [],
            "arrival_rates": [{"application": a["name"], "per_s": [0, 0, 0]} for a in applications],
        }
        fleet = self.call("PUT", "/v1/fleet", {"state": state})
        self.names = [host["name"] for host in fleet["hosts"]]

    def arrive(self, request, application):
        new = {"id": request, "application": application, "arrived_ns": self.now_ns()}
        with self.lock:
            self.requests[request] = new
            self.place("arrival")

    def place(self, epoch):
        """Asks where the requests that wait go, and sends them there. An answer that was lost does
        no harm: who asks again about the same requests is answered the same."""
        with self.lock:
            new = [request for id, request in self.requests.items() if id not in self.runs]
            question = {"now_ns": self.now_ns(), "epoch": epoch, "requests": new}
            answer = self.call("POST", "/v1/decisions", question)
            decision = answer["decision"]
            for deployment in decision["deployments"]:
                request = self.requests.get(deployment["request"])
                if request:
                    deployment.update(application=request["application"], decision=answer["id"])
                    self.runs[request["id"]] = deployment
                    self.active.append(deployment)
                    self.start(self.run, deployment)
            for action in decision["provisioning"]:
                host = self.hosts[action["host"]]
                self.orders[action["host"]] = host.wanted = action["on"]
                patience_s = BOOTS * host.boot_s + self.world["interval_s"]
                host.starts_until_ns = self.now_ns() + int(patience_s * 1e9)
            # Nothing here can move a fragment that runs: it stays where it is.
            stays = [
                {
                    "kind": "moved",
                    "request": migration["request"],
                    "fragment": migration["fragment"],
                    "host": self.runs[migration["request"]]["hosts"][migration["fragment"]],
                }
                for migration in decision.get("migrations", [])
                if migration["request"] in self.runs
            ]
            if stays:
                self.tell(*stays)

    def start(self, work, *args):
        """Does `work` in the background; what goes wrong ends the program."""

        def guarded():
            try:
                work(*args)
            except Exception as error:
                self.ended.put(error)

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        return thread

    def run(self, deployment):
        """Runs the fragments of a request, each on its host, in the order of the variant's graph."""
        try:
            for stage in self.stages(deployment):
                with ThreadPoolExecutor(len(stage)) as senders:
                    list(senders.map(lambda k: self.step(deployment, k), stage))
            with self.lock:
                if self.current(deployment):
                    self.tell({"kind": "answered", "request": deployment["request"]})
                    self.end(deployment, "answered")
        except Lost as lost:
            with self.lock:
                if self.current(deployment):
                    self.lose(lost.place)
                    self.place("arrival")
        finally:
            with self.lock:
                self.active.remove(deployment)

    def current(self, deployment):
        """Whether a deployment still counts: its request has not ended, and waits not again."""
        return self.runs.get(deployment["request"]) is deployment

    def stages(self, deployment):
        """The fragments of a variant, those first that wait for no other."""
        applications = {a["name"]: a["variants"] for a in self.world["applications"]}
        variants = {v["name"]: v["fragments"] for v in applications[deployment["application"]]}
        left, done = dict(enumerate(variants[deployment["variant"]])), set()
        while left:
            stage = [k for k, f in left.items() if done.issuperset(f.get("after", []))]
            done.update(left.pop(k)["name"] for k in stage)
            yield stage

    def step(self, deployment, k):
        """Has one fragment run by the worker of its host, once that is up."""
        place = deployment["hosts"][k]
        host = self.hosts[place]
        while not host.up:
            if self.now_ns() > host.starts_until_ns or not self.current(deployment):
                raise Lost(place)
            time.sleep(POLL_S)
        task = {name: deployment[name] for name in ("request", "application", "variant")}
        try:
            ran = send("POST", f"{host.worker}/run", {**task, "fragment": k})
        except NO_ANSWER as error:
            note(f"host {place}: {error}")
            raise Lost(place) from error
        with self.lock:
            if not self.current(deployment):
                raise Lost(place)
            now_ns, about = self.now_ns(), {"request": deployment["request"], "fragment": k}
            began_ns = max(0, now_ns - int(ran["took_s"] * 1e9))
            self.tell(
                {"kind": "started", "at_ns": began_ns, **about},
                {"kind": "finished", "at_ns": now_ns, **about},
            )

    def lose(self, place):
        """A host does not serve: what is on it waits again. Whether anything was."""
        self.hosts[place].up = False
        deltas = [{"kind": "host", "host": place, "lifecycle": "off"}]
        for id, deployment in list(self.runs.items()):
            if place in deployment["hosts"]:
                del self.runs[id]
                deltas.append({"kind": "withdrawn", "request": id})
                self.attempts[id] = self.attempts.get(id, 0) + 1
                if self.attempts[id] == ATTEMPTS:
                    deltas.append({"kind": "failed", "request": id})
                    self.end(deployment, "failed")
        self.tell(*deltas)
        return len(deltas) > 1

    def end(self, deployment, outcome):
        """A request has ended."""
        id = deployment["request"]
        del self.requests[id]
        self.runs.pop(id, None)
        attempts = self.attempts.pop(id, 0) + (outcome == "answered")
        self.ended.put({**deployment, "outcome": outcome, "attempts": attempts})

    def samples(self):
        """What the workers measure; None of those that do not answer."""

        def sample(host):
            try:
                return send("GET", f"{host.worker}/")
            except NO_ANSWER:
                return None

        with ThreadPoolExecutor(min(len(self.hosts), UNDER_WAY)) as askers:
            return list(askers.map(sample, self.hosts))

    def look(self):
        """Looks which hosts serve, and how busy they are."""
        at_ns, samples = self.now_ns(), self.samples()
        deltas, lost = [], False
        with self.lock:
            for place, (host, sample) in enumerate(zip(self.hosts, samples)):
                if sample:
                    if host.wanted:
                        host.up = True
                        seen = {"kind": "host", "host": place, "lifecycle": "on"}
                        deltas.append({**seen, "at_ns": at_ns})
                    deltas.append({"kind": "sample", "host": place, **sample})
                elif not host.wanted or self.now_ns() > host.starts_until_ns:
                    lost = self.lose(place) or lost
            self.tell(*deltas)
            if lost:
                self.place("arrival")

    def power(self):
        """Turns hosts on and off as decided; off only those on which nothing runs any more."""
        with self.lock:
            busy = {place for deployment in self.active for place in deployment["hosts"]}
            ready = {place: on for place, on in self.orders.items() if on or place not in busy}
            for place, on in ready.items():
                del self.orders[place]
                if not on:
                    self.hosts[place].up = False
        for place, on in ready.items() if self.azure else ():
            try:
                self.azure.turn(self.names[place], on)
            except Refused as refused:
                note(refused)
                with self.lock:
                    self.orders.setdefault(place, on)

    def tick(self, done):
        """Looks and acts, and asks at each boundary what should be on, until it is `done`."""
        looks = 0
        while not done.wait(self.world["interval_s"] / LOOKS / self.args.speed):
            looks += 1
            self.look()
            if looks % LOOKS == 0:
                self.place("boundary")
            self.power()


def main(args):
    try:
        world = tomllib.loads(read(args.world))
    except tomllib.TOMLDecodeError as error:
        raise Refused(f"{args.world}: {error}") from error
    chance, done = random.Random(args.seed), threading.Event()
    deployer = Deployer(args, world)
    deployer.put()
    deployer.place("boundary")
    deployer.power()
    ticker = deployer.start(deployer.tick, done)
    names = [application["name"] for application in world["applications"]]
    counts = {"answered": 0, "failed": 0}

    def tell_ended(wait_s):
        """Tells of one request that has ended, if one does within this time."""
        try:
            ended = deployer.ended.get(timeout=wait_s)
        except queue.Empty:
            return
        if isinstance(ended, Exception):
            raise ended
        print(json.dumps(ended), flush=True)
        counts[ended["outcome"]] += 1

    for request in range(args.requests):
        arrives = time.monotonic() + chance.expovariate(args.rate) / args.speed
        while len(deployer.requests) >= UNDER_WAY or time.monotonic() < arrives:
            tell_ended(max(0, arrives - time.monotonic()) or AGAIN_S)
        deployer.arrive(request, chance.choice(names))
    while sum(counts.values()) < args.requests:
        tell_ended(AGAIN_S)
    done.set()
    ticker.join()
    deployer.power()
    print(json.dumps({**counts, "took_s": deployer.now_ns() / 1e9}))


def flags():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--service", default="http://127.0.0.1:8080", metavar="URL", help="the decision service")
    add("--world", required=True, metavar="FILE", help="the world's file")
    workers = "workers, one a host of the world, in their order"
    add("--worker", nargs="+", action="extend", required=True, metavar="URL", help=workers)
    manager = "Resource Manager that turns the VMs on and off, which have the names of the hosts"
    add("--azure", metavar="URL", help=manager)
    group = "resource group of the VMs, as /subscriptions/S/resourceGroups/G"
    add("--group", default="", metavar="ID", help=group)
    add("--requests", type=int, default=60, help="how many requests to send")
    add("--rate", type=float, default=1.5, help="requests per second of the fleet's time")
    add("--speed", type=float, default=1.0, help="seconds of the fleet's time in a real second")
    add("--token-file", metavar="FILE", help="holds a bearer token with the role decide")
    add("--seed", type=int, default=1, help="seed of arrivals")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main(flags())
    except Refused as refused:
        sys.exit(f"error: {refused}")
