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
    if status >= 400:
        assert response.headers["Content-Type"] == "application/problem+json"
        problem = response.json()
        assert problem["status"] == status and problem["detail"] and problem["title"]
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
accounts, account_pages = pages("/accounts")
payments, payment_pages = pages("/payments")
assert (len(accounts), account_pages, len(payments), payment_pages) == (120, 3, 420, 9)
assert pages("/payments", limit=200)[1] == 3
for account in accounts[:5]:
    own = pages(f"/accounts/{account['id']}/payments", limit=1)[0]
    assert own == [payment for payment in payments if payment["account"] == account["id"]] and own
first = answered("GET", "/accounts")
assert first.headers["Cache-Control"] == "private"
assert {name.strip().lower() for name in first.headers["Vary"].split(",")} == {ID.lower(), VALUE.lower()}

# The whole life of an account and of a payment.
form = {"holder": "Gorse Café", "email": "books@gorse.example.com", "currency": "USD"}
opened = answered("POST", "/accounts", 201, json=form)
account = opened.json()
assert opened.headers["Location"] == f"/accounts/{account['id']}"
assert account == {"id": account["id"], **form, "status": "open"}
assert answered("GET", opened.headers["Location"]).json() == account
order = {"account": account["id"], "amount": 5_000, "currency": "USD", "reference": "Invoice 1"}
path = answered("POST", "/payments", 201, json=order).headers["Location"]
order["amount"] = 6_000
assert answered("PUT", path, json=order).json()["amount"] == 6_000
assert answered("PATCH", path, json={"reference": "Invoice 1b"}).json()["amount"] == 6_000
assert answered("PATCH", path, json={"status": "settled"}).json()["status"] == "settled"
answered("DELETE", path, 409)
answered("POST", path + "/refund", 422, json={"amount": 6_001})
assert answered("POST", path + "/refund", json={"amount": 1_000}).json()["status"] == "settled"
refunded = answered("POST", path + "/refund", json={}).json()
assert (refunded["status"], refunded["refunded"]) == ("refunded", 6_000)
answered("DELETE", f"/accounts/{account['id']}", 409)
second = answered("POST", "/payments", 201, json=order).headers["Location"]
assert answered("DELETE", second, 204).content == b""
for method in ["GET", "DELETE"]:
    answered(method, second, 404)
assert answered("HEAD", path).content == b""

# What is not JSON, or no form, changes nothing.
answered("POST", "/accounts", 415, data="holder=x", headers={"Content-Type": "application/x-www-form-urlencoded"})
answered("POST", "/accounts", 400, data="{", headers={"Content-Type": "application/json"})
answered("POST", "/accounts", 413, json={**form, "holder": "x" * 20_000})
answered("POST", "/accounts", 422, json={**form, "limit": 1})
assert len(pages("/accounts")[0]) == 121

# One constant answer without credentials, and one for all that are refused.
missing = requests.get(BASE + "/accounts")
wrong = [requests.get(BASE + "/accounts", headers=headers) for headers in [
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
