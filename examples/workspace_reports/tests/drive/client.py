"""What a customer's nightly sync does: reads every page, writes an edition, and minds what it is answered."""

import os

import requests

BASE, PLAIN = os.environ["BASE"], os.environ["PLAIN"]


def session(key):
    asking = requests.Session()
    asking.trust_env = False  # what the environment says of certificates would come before this one
    asking.verify = os.environ["CERTIFICATE"]
    asking.headers["Authorization"] = f"Bearer {key}"
    return asking


def answered(asking, path, status=200, method="GET", **more):
    response = asking.request(method, BASE + path, allow_redirects=False, **more)
    assert response.status_code == status, (path, response.status_code, response.text[:500])
    return response


def pages(asking, path):
    """All items, and how many pages they came in."""
    items, count, after = [], 0, None
    while True:
        page = answered(asking, path, params={"after": after} if after else {}).json()
        items += page["items"]
        count += 1
        after = page["next"]
        if after is None:
            ids = [item["id"] for item in items]
            assert ids == sorted(set(ids)), "each once, in order"
            return items, count


everything = session(os.environ["KEY"])
projects, _ = pages(everything, "/v1/projects")
assert [project["id"] for project in projects] == [f"p-{number}" for number in range(1, 9)]
editions, edition_pages = pages(everything, "/v1/editions")
assert len(editions) == 8 * 3 * 12 and edition_pages == 6
by_blueprint = []
for project in projects:
    for blueprint in pages(everything, f"/v1/projects/{project['id']}/blueprints")[0]:
        by_blueprint += pages(everything, f"/v1/blueprints/{blueprint['id']}/editions")[0]
assert by_blueprint == editions
rows, row_pages = pages(everything, "/v1/editions/p-1-b1-e001/sections/risks/rows")
assert len(rows) == 120 and row_pages == 3
download = answered(everything, "/v1/outputs/p-1-b1-e001-o1/download")
assert download.text.endswith("end,20000,\n") and download.headers["Content-Type"] == "text/csv"
assert download.headers["Cache-Control"] == "private" and download.headers["Vary"].lower() == "authorization"
assert answered(everything, "/v1/outputs/p-1-b3-e001-o1/download", 500).json()["code"] == "internal"

one = session(os.environ["ONE"])
assert {edition["project"] for edition in pages(one, "/v1/editions")[0]} == {"p-2"}
new = {"blueprint": "p-2-b1", "title": "Written by a program"}
created = answered(one, "/v1/editions", 201, "POST", params={"project": "p-2"}, json=new).json()
answered(one, f"/v1/editions/{created['id']}/submit", 200, "POST")
answered(one, f"/v1/editions/{created['id']}/submit", 409, "POST")
assert answered(one, f"/v1/editions/{created['id']}").json()["state"] == "submitted"
answered(one, "/v1/editions/p-3-b1-e012/submit", 403, "POST")
answered(one, "/v1/editions", 403, "POST", params={"project": "p-3"}, json=new)
answered(one, "/v1/editions", 422, "POST", params={"project": "p-2"}, json={**new, "project": "p-3"})
missing = answered(one, f"/v1/outputs/{created['outputs'][0]['id']}/generate", 403, "POST")
assert 'scope="write:outputs"' in missing.headers["WWW-Authenticate"]
assert missing.headers["Content-Type"] == "application/problem+json"
assert missing.headers["Cache-Control"] == "no-store"

for status, headers in [(401, {}), (401, {"Authorization": "Bearer " + os.environ["KEY"] + "x"}),
                        (401, {"X-API-Key": os.environ["KEY"]})]:
    refused = requests.get(BASE + "/v1/editions", headers=headers, verify=os.environ["CERTIFICATE"])
    assert refused.status_code == status
    assert refused.headers["WWW-Authenticate"].startswith('Bearer realm="api"')

# The client trusts no server without this certificate, and the server answers nothing without TLS.
try:
    requests.get(BASE + "/v1/editions")
    raise AssertionError("trusted an unknown certificate")
except requests.exceptions.SSLError:
    pass
clear = one.get(PLAIN + "/v1/editions", allow_redirects=False)
assert clear.status_code == 403 and clear.json()["code"] == "https_required" and "Location" not in clear.headers

# Management is for those who have logged in, and a key is no login.
answered(everything, "/admin/keys", 401)
office = session(os.environ["KEY"])
del office.headers["Authorization"]
login = answered(office, "/admin/login", 200, "POST", json={"code": os.environ["CODE"]})
answered(office, "/admin/login", 401, "POST", json={"code": os.environ["CODE"]})
office.headers["X-Session"] = login.json()["session"]
assert answered(office, "/admin/keys").json()["keys"] == []
choices = answered(office, "/admin/keys/scopes").json()["scopes"]
issued = answered(office, "/admin/keys", 201, "POST",
                  json={"title": "Borealis's",
                        "access": {"type": "scopes", "scopes": [choice["scope"] for choice in choices]}})
assert issued.headers["Cache-Control"] == "no-store"
theirs = session(issued.json()["api_key"])
assert pages(theirs, "/v1/projects")[0][0]["id"] == "p-91"
answered(theirs, "/v1/editions/p-1-b1-e001", 404)
