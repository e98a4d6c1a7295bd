"""What a customer's nightly job does: reads every page of every report, and minds what it is answered."""

import os

import requests

BASE = os.environ["BASE"]
REPORTS = ["training/assignments", "training/quiz-scores", "training/certificates",
           "phishing/sends", "phishing/clicks", "phishing/reports", "phishing/repeat-offenders"]


def session(key):
    asking = requests.Session()
    asking.headers["x-api-key"] = key  # names of headers match whatever their case
    return asking


def answered(asking, path, status=200, **parameters):
    response = asking.get(BASE + path, params=parameters, allow_redirects=False)
    assert response.status_code == status, (path, response.status_code, response.text)
    return response


def pages(asking, path):
    """All items, and how many pages they came in."""
    items, count, after = [], 0, None
    while True:
        page = answered(asking, path, **({"after": after} if after else {})).json()
        items += page["items"]
        count += 1
        after = page["next"]
        if after is None:
            ids = [item["id"] for item in items]
            assert ids == sorted(set(ids)), "each once, in order"
            return items, count


everything = session(os.environ["KEY"])
clients, _ = pages(everything, "/v1/clients")
assert [client["id"] for client in clients] == [f"nw-{number:03}" for number in range(1, 13)]
counts = answered(everything, "/v1/rollups/counts").json()
users, user_pages = pages(everything, "/v1/users")
assert len(users) == counts["users"] == 624 and user_pages == 13
sends, send_pages = pages(everything, "/v1/clients/nw-012/phishing/sends")
assert send_pages > 5, "the reports are longer than a page"
totals = {report: sum(len(pages(everything, f"/v1/clients/{client['id']}/{report}")[0]) for client in clients)
          for report in REPORTS}
assert totals["training/assignments"] == counts["assignments"]
assert totals["phishing/sends"] == counts["phishing_sent"]
assert totals["phishing/clicks"] == counts["phishing_clicked"]
assert totals["phishing/reports"] == counts["phishing_reported"]
assert 0 < totals["phishing/repeat-offenders"] < counts["users"]
assert 0 < totals["training/certificates"] < totals["training/quiz-scores"] == counts["completed"]
record = answered(everything, f"/v1/users/{users[0]['id']}").json()
assert 0 <= record["risk_score"] <= 100 and record["training"] and record["phishing"]
trends = answered(everything, "/v1/rollups/trends")
assert sum(month["completed"] for month in trends.json()) == counts["completed"]
assert trends.headers["Cache-Control"] == "private" and trends.headers["Vary"].lower() == "x-api-key"

one = session(os.environ["ONE"])
assert [client["id"] for client in pages(one, "/v1/clients")[0]] == ["nw-002"]
assert answered(one, "/v1/rollups/counts").json()["clients"] == 1
for report in REPORTS:
    answered(one, f"/v1/clients/nw-002/{report}")
    answered(one, f"/v1/clients/nw-001/{report}", 403)
answered(one, "/v1/users/nw-002-u001")
answered(one, "/v1/users/nw-001-u001", 403)

for status, headers in [(401, {}), (401, {"X-API-Key": os.environ["KEY"] + "x"}), (401, {"X-Api-Keys": os.environ["KEY"]})]:
    refused = requests.get(BASE + "/v1/rollups/counts", headers=headers)
    assert refused.status_code == status
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.headers["Cache-Control"] == "no-store"
    assert refused.headers["WWW-Authenticate"] == 'ApiKey realm="api", in="header", name="X-API-Key"'

# Management is for those who have logged in, and a key is no login.
assert everything.get(BASE + "/admin/keys").status_code == 401
code = {"code": os.environ["CODE"]}
login = requests.post(BASE + "/admin/login", json=code)
assert login.status_code == 200 and login.headers["Content-Type"] == "application/json"
assert requests.post(BASE + "/admin/login", json=code).status_code == 401, "a code is good once"
office = requests.Session()
office.headers["X-Session"] = login.json()["session"]
assert office.get(BASE + "/admin/keys").json()["keys"] == []
issued = office.post(BASE + "/admin/keys", json={"title": "Contoso's", "access": {"type": "full"}})
assert issued.status_code == 201 and issued.headers["Cache-Control"] == "no-store"
theirs = session(issued.json()["api_key"])
assert pages(theirs, "/v1/clients")[0][0]["id"] == "co-001"
answered(theirs, "/v1/clients/nw-001/phishing/sends", 404)
answered(theirs, "/v1/users/nw-001-u001", 404)
