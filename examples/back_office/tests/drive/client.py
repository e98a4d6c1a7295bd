"""What a caller's nightly job does: reads all pages, makes and settles payments, and minds what it is answered."""

import os

import requests

BASE = os.environ["BASE"]
ID, VALUE = "X-AuthenticationKeyId", "X-AuthenticationKeyValue"
KEY = {ID: os.environ["KEY_ID"], VALUE: os.environ["KEY_VALUE"]}

books = requests.Session()
books.headers.update({name.upper(): value for name, value in KEY.items()})  # names of headers match whatever their case


def answered(method, path, status=200, **rest):
    response = books.request(method, BASE + path, allow_redirects=False, **rest)
    assert response.status_code == status, (method, path, response.status_code, response.text)
    return response


def pages(path, limit=None):
    """All items, and how many pages they came in."""
    items, count, after = [], 0, None
    while True:
        parameters = {name: value for name, value in [("limit", limit), ("after", after)] if value is not None}
        page = answered("GET", path, params=parameters).json()
        items += page["items"]
        count += 1
        after = page["next"]
        if after is None:
            ids = [item["id"] for item in items]
            assert ids == sorted(set(ids)), "each once, in order"
            return items, count


assert len(KEY[ID]) == 36 and len(KEY[VALUE]) == 64 and KEY[VALUE].isalnum()
payments, payment_pages = pages("/payments")
assert (len(payments), payment_pages) == (420, 9)
assert pages("/payments", limit=200)[1] == 3
first = answered("GET", "/payments")
assert first.headers["Cache-Control"] == "private"
assert {name.strip().lower() for name in first.headers["Vary"].split(",")} == {ID.lower(), VALUE.lower()}

# The whole life of a payment.
order = {"account": "acc-000003", "amount": 5_000, "currency": "USD", "reference": "Café 1"}
made = answered("POST", "/payments", 201, json=order)
path = made.headers["Location"]
assert made.json() == {"id": path.removeprefix("/payments/"), **order} == answered("GET", path).json()
assert answered("PUT", path, json={**order, "amount": 6_000}).json()["amount"] == 6_000
assert answered("PATCH", path, json={"reference": "Invoice 1b"}).json()["amount"] == 6_000
assert answered("HEAD", path).content == b""
assert answered("DELETE", path, 204).content == b""
for method in ["GET", "DELETE"]:
    answered(method, path, 404)

# What is not JSON, or no form, changes nothing.
for status, body in [(400, {"data": "amount=1", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}),
                     (400, {"data": "{", "headers": {"Content-Type": "application/json"}}),
                     (422, {"json": {**order, "limit": 1}})]:
    answered("POST", "/payments", status, **body)
assert pages("/payments")[0] == payments

# One constant answer without credentials, and one for all that are refused.
missing = requests.get(BASE + "/payments")
wrong = [requests.get(BASE + "/payments", headers=headers) for headers in [
    {ID: KEY[ID]}, {VALUE: KEY[VALUE]}, {ID: KEY[ID], VALUE: KEY[VALUE][:-1]}, {ID: KEY[VALUE], VALUE: KEY[ID]}]]
for refused in [missing, *wrong]:
    assert refused.status_code == 401 and refused.reason == "Unauthorized"
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.headers["Cache-Control"] == "no-store"
    assert refused.headers["WWW-Authenticate"] == f'ApiKey realm="api", in="header", name="{ID} {VALUE}"'
assert len({refused.content for refused in wrong}) == 1 and wrong[0].content != missing.content

# Management is for system administrators: neither for keys nor for everybody who can log in.
assert books.get(BASE + "/admin/keys").status_code == 401
code = {"code": os.environ["CODE"]}
login = requests.post(BASE + "/admin/login", json=code)
assert login.status_code == 200 and login.headers["Cache-Control"] == "no-store"
assert requests.post(BASE + "/admin/login", json=code).status_code == 401, "a code is good once"
agent = {"X-Session": login.json()["session"]}
assert requests.get(BASE + "/admin/keys", headers=agent).status_code == 403
assert requests.post(BASE + "/admin/keys", headers=agent, json={"name": "Mine"}).status_code == 403
