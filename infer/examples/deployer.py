#!/usr/bin/env python3
"""A deployer: asks the decision service where each request should run, and sends it there.

It keeps the service in step by telemetry: what starts, what ends, how busy the hosts are. The
hosts are HTTP workers; without --worker it starts one a host in this process, which take as long as
the world says that the work takes. Only the standard library is used.

    infer serve --policy greedy --world infer/examples/small.toml
    python3 infer/examples/deployer.py --world infer/examples/small.toml --requests 60
"""

import argparse
import http.client
import http.server
import json
import random
import threading
import time
import tomllib
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("--service", default="http://127.0.0.1:8080")
parser.add_argument("--world", required=True, help="the world's file")
parser.add_argument("--worker", action="append", default=[], help="URL of a worker, one a host, in their order")
parser.add_argument("--requests", type=int, default=60, help="how many requests to send")
parser.add_argument("--rate", type=float, default=1.5, help="requests per second of the fleet's time")
parser.add_argument("--speed", type=float, default=1.0, help="seconds of the fleet's time in a real second")
parser.add_argument("--token-file", help="file that holds a bearer token with the role decide")
parser.add_argument("--seed", type=int, default=1)
args = parser.parse_args()

world = tomllib.load(open(args.world, "rb"))
sizes = {size["name"]: size for size in world["sizes"]}
hosts = [sizes[group["size"]] for group in world["hosts"] for _ in range(group.get("count", 1))]
lifecycle = [
    "on" if k < group.get("initially_on", group.get("count", 1)) else "off"
    for group in world["hosts"]
    for k in range(group.get("count", 1))
]
variants = {
    (application["name"], variant["name"]): variant["fragments"]
    for application in world["applications"]
    for variant in application["variants"]
}
applications = [application["name"] for application in world["applications"]]
began, running, lock, local = time.monotonic(), [0] * len(hosts), threading.Lock(), threading.local()
token = open(args.token_file).read().strip() if args.token_file else None


def now_ns():
    return int((time.monotonic() - began) * args.speed * 1e9)


def ask(method, url, body=None):
    """Sends `body` as JSON and gives the answer; a refusal is an error that tells what is wrong."""
    parts = urllib.parse.urlsplit(url)
    kept = local.__dict__.setdefault("connections", {})
    if parts.netloc not in kept:
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        kept[parts.netloc] = kind(parts.netloc, timeout=60)
    headers = {"content-type": "application/json"}
    if token and url.startswith(args.service):
        headers["authorization"] = f"Bearer {token}"
    kept[parts.netloc].request(method, parts.path, json.dumps(body), headers)
    response = kept[parts.netloc].getresponse()
    answer = json.loads(response.read())
    if response.status >= 400:
        raise RuntimeError(f"{method} {url}: {response.status} {answer.get('detail')} {answer.get('field', '')}")
    return answer


def tell(*deltas):
    ask("POST", f"{args.service}/v1/telemetry", {"schema": 1, "now_ns": now_ns(), "deltas": list(deltas)})


def start_worker(host):
    """A worker that shares its cores among what runs on it, roughly as the twin does."""

    class Worker(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            left = json.loads(self.rfile.read(int(self.headers["content-length"])))["work_mi"]
            step = 0.01
            while left > 0:
                time.sleep(step / args.speed)
                share = min(1.0, hosts[host]["vcpus"] / max(1, running[host]))
                left -= share * hosts[host]["mips_per_vcpu"] * step
            body = b"{}"
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Worker)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


workers = args.worker or [start_worker(host) for host in range(len(hosts))]


def serve(request, application, arrived_ns):
    """Has a request placed, runs its fragments on their hosts, and tells what happened."""
    new = {"id": request, "application": application, "arrived_ns": arrived_ns, "context_tokens": 0}
    question = {"schema": 1, "now_ns": now_ns(), "epoch": "arrival", "requests": [new]}
    decided = ask("POST", f"{args.service}/v1/decisions", question)
    placed = {one["request"]: one for one in decided["decision"]["deployments"]}
    for deployment in placed.values():
        run(deployment, application if deployment["request"] == request else waiting.pop(deployment["request"]))
    if request not in placed:
        waiting[request] = application


def run(deployment, application):
    request, fragments = deployment["request"], variants[application, deployment["variant"]]
    for k, (fragment, host) in enumerate(zip(fragments, deployment["hosts"])):
        with lock:
            running[host] += 1
        tell({"kind": "started", "request": request, "fragment": k})
        mean = fragment["work_mi"]["mean"] if isinstance(fragment["work_mi"], dict) else fragment["work_mi"]
        ask("POST", f"{workers[host]}/run", {"work_mi": random.uniform(0.5, 1.5) * mean})
        with lock:
            running[host] -= 1
        tell({"kind": "finished", "request": request, "fragment": k})
    tell({"kind": "answered", "request": request})
    answered.append(request)


def boundary():
    """Asks which hosts should be on, and turns them on and off."""
    decided = ask("POST", f"{args.service}/v1/decisions", {"schema": 1, "now_ns": now_ns(), "epoch": "boundary"})
    for action in decided["decision"]["provisioning"]:
        host = action["host"]
        lifecycle[host] = "booting" if action["on"] else "off"
        if action["on"]:
            threading.Timer(hosts[host].get("boot_s", 0) / args.speed, booted, [host]).start()
    for deployment in decided["decision"]["deployments"]:
        pool.submit(run, deployment, waiting.pop(deployment["request"]))


def booted(host):
    lifecycle[host] = "on"
    tell({"kind": "host", "host": host, "lifecycle": "on"})


def measure():
    """Samples what the hosts show; a real deployer reads its monitoring here."""
    samples = []
    for host, size in enumerate(hosts):
        if lifecycle[host] == "on":
            used = min(1.0, running[host] / size["vcpus"])
            power = size["power_w"]
            power_w = power[0] + used * (power[-1] - power[0])
            samples.append({"kind": "sample", "host": host, "utilization": used, "power_w": power_w, "span_s": 0.1})
    tell(*samples)


def every(seconds, work):
    while not done.wait(seconds / args.speed):
        work()


random.seed(args.seed)
waiting, answered, done = {}, [], threading.Event()
interval_ns = int(world["interval_s"] * 1e9)
ask(
    "PUT",
    f"{args.service}/v1/fleet",
    {
        "schema": 1,
        "state": {
            "now_ns": now_ns(),
            "epoch": "boundary",
            "next_boundary_ns": interval_ns,
            "next_request": 0,
            "hosts": [{"lifecycle": seen, "queue": [], "resident": []} for seen in lifecycle],
            "requests": [],
            "transfers": [],
            "arrival_rates": [{"application": name, "per_s": [0.0, 0.0, 0.0]} for name in applications],
        },
    },
)
with ThreadPoolExecutor(max_workers=64) as pool:
    for seconds, work in ((world["interval_s"], boundary), (world["interval_s"] / 5, measure)):
        threading.Thread(target=every, args=(seconds, work), daemon=True).start()
    served = []
    for request in range(args.requests):
        time.sleep(random.expovariate(args.rate) / args.speed)
        served.append(pool.submit(serve, request, random.choice(applications), now_ns()))
    for future in served:
        future.result()
    done.set()
print(json.dumps({"answered": len(answered), "waiting": len(waiting), "took_s": now_ns() / 1e9}))
