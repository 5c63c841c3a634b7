#!/usr/bin/env python3
"""The smallest deployer: asks where requests should run, sends them there, tells what happened.

One request of each application, one after the other, and all hosts are on. What a deployer does
beside that, and when something fails, is in deployer.py.

    python3 infer/examples/place.py infer/examples/small.toml http://127.0.0.1:8080 \\
        http://127.0.0.1:900{1,2,3}
"""

import json
import sys
import time
import tomllib
import urllib.request

world_file, service, *workers = sys.argv[1:]
with open(world_file, "rb") as file:
    world = tomllib.load(file)
began_ns = time.monotonic_ns()


def now():
    return {"schema": 1, "now_ns": time.monotonic_ns() - began_ns}


def send(method, url, body):
    headers = {"content-type": "application/json"}
    data = json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def tell(kind, about):
    send("POST", f"{service}/v1/telemetry", {**now(), "deltas": [{"kind": kind, **about}]})


state = {
    "now_ns": 0,
    "epoch": "boundary",
    "next_boundary_ns": int(world["interval_s"] * 1e9),
    "next_request": 0,
    "hosts": [{"lifecycle": "on", "queue": [], "resident": []} for _ in workers],
    "requests": [],
    "transfers": [],
    "arrival_rates": [
        {"application": application["name"], "per_s": [0, 0, 0]}
        for application in world["applications"]
    ],
}
send("PUT", f"{service}/v1/fleet", {"schema": 1, "state": state})
for request, application in enumerate(world["applications"]):
    new = {"id": request, "application": application["name"]}
    question = {**now(), "epoch": "arrival", "requests": [new]}
    answer = send("POST", f"{service}/v1/decisions", question)
    [deployment] = answer["decision"]["deployments"]
    for fragment, host in enumerate(deployment["hosts"]):
        about = {"request": request, "fragment": fragment}
        task = {"application": application["name"], "variant": deployment["variant"], **about}
        tell("started", about)
        send("POST", f"{workers[host]}/run", task)
        tell("finished", about)
    tell("answered", {"request": request})
    print(json.dumps(deployment))
