"""Customers' programs against the limits: three that do as the headers say, and one that ignores them.

Limit headers are read by the package http_sfv, which knows structured fields (RFC 9651). Time is measured here, not by
the server.
"""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import http_sfv
import requests

BASE = os.environ["BASE"]
MOST = 60
ENOUGH = MOST + 10  # into the second window
FOR = 70  # seconds, likewise


def session(key):
    asking = requests.Session()
    asking.trust_env = False  # what the environment says of certificates would come before this one
    asking.verify = os.environ["CERTIFICATE"]
    asking.headers["Authorization"] = f"Bearer {os.environ[key]}"
    return asking


def fields(response, name):
    """The parameters of each item of a list, by the item's name."""
    parsed = http_sfv.List()
    parsed.parse(response.headers[name].encode())
    assert len({item.value for item in parsed}) == len(parsed), "each name once"
    return {item.value: dict(item.params) for item in parsed}


def obeys_the_draft():
    """Asks as fast as it may: waits when a quota has nothing left."""
    asking, waited = session("DRAFT"), 0
    for answered in range(ENOUGH):
        response = asking.get(BASE + "/v1/projects")
        assert response.status_code == 200, (answered, response.status_code, response.text, response.headers)
        policies, limits = fields(response, "RateLimit-Policy"), fields(response, "RateLimit")
        assert policies["minute"] == {"q": 60, "w": 60} and policies["hour"] == {"q": 1000, "w": 3600}
        assert policies["concurrency"] == {"q": 5, "qu": "concurrent-requests"}
        assert limits.keys() == policies.keys() and limits["concurrency"] == {"r": 4}
        for name in ["minute", "hour"]:
            if limits[name]["r"] == 0:
                waited += limits[name]["t"]
                time.sleep(limits[name]["t"])
    assert waited >= 1


def obeys_unix_seconds():
    """The same by the older fields."""
    asking = session("UNIX")
    for answered in range(ENOUGH):
        response = asking.get(BASE + "/v1/projects")
        assert response.status_code == 200, (answered, response.status_code, response.text, response.headers)
        assert response.headers["X-RateLimit-Limit"] == "60", "the tightest"
        if int(response.headers["X-RateLimit-Remaining"]) == 0:
            time.sleep(max(0.0, int(response.headers["X-RateLimit-Reset"]) - time.time()))


def obeys_the_concurrency():
    """Sends as many slow requests at once as the policy allows, one after another as they end."""
    asking = session("SLOW")
    first = asking.get(BASE + "/v1/projects")
    most = fields(first, "RateLimit-Policy")["concurrency"]["q"]
    assert most == 5

    def slow(number):
        def body():
            yield b'{"blueprint":"p-1-b1",'
            time.sleep(0.3)
            yield b'"title":"Written slowly"}'

        with session("SLOW") as writing:
            headers = {"Content-Type": "application/json"}
            return writing.post(BASE + "/v1/editions?project=p-1", data=body(), headers=headers)

    with ThreadPoolExecutor(most) as at_once:
        for response in at_once.map(slow, range(25)):
            assert response.status_code == 201, (response.status_code, response.text, response.headers)


def ignores_everything():
    """Asks all the time, and notes when each answered request was sent and answered."""
    asking, begun, answered, refused = session("IGNORES"), time.monotonic(), [], 0
    while time.monotonic() - begun < FOR:
        sent = time.monotonic()
        response = asking.get(BASE + "/v1/projects")
        received = time.monotonic()
        if response.status_code == 200:
            answered.append((sent, received))
            continue
        refused += 1
        assert response.status_code == 429, response.text
        problem = response.json()
        assert problem["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded", problem
        assert problem["violated-policies"] == ["minute"], problem
        wait, limits = int(response.headers["Retry-After"]), fields(response, "RateLimit")
        assert 1 <= wait <= 61 and limits["minute"]["r"] == 0 and wait >= limits["minute"]["t"]
        time.sleep(0.02)
    assert len(answered) > MOST and refused > 0, (len(answered), refused)
    for (sent, _), (_, received) in zip(answered, answered[MOST:]):
        assert received - sent > 60, f"{MOST + 1} requests in {received - sent} seconds"


failures = []


def run(program):
    try:
        program()
    except BaseException as failure:
        failures.append((program.__name__, failure))
        raise


threads = [
    threading.Thread(target=run, args=(program,))
    for program in [obeys_the_draft, obeys_unix_seconds, obeys_the_concurrency, ignores_everything]
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failures, failures
