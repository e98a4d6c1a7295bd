//! Keys restricted to projects, on each route.

use example_driver::text;
use serde_json::json;

use crate::needs::routes;
use crate::{PROGRAM, SCOPES, form, restricted};

#[test]
fn b3_a_key_reaches_its_project_only() {
    let product = PROGRAM.start();
    let all = product.with_key("admin");
    let edition = |id: &str| all.get(&format!("/v1/editions/{id}")).body;
    let of_blueprint = || all.get("/v1/blueprints/p-2-b1/editions").body;
    let before = (
        edition("p-2-b1-e012"),
        edition("p-2-b1-e001"),
        of_blueprint(),
    );
    for scopes in [&SCOPES[..], &["admin"]] {
        let form = restricted("For p-1", scopes, &["p-1"]);
        let asking = product.asking(&product.issue(&form));
        for (method, path, _) in routes() {
            if ["/v1/projects", "/v1/editions"].contains(&path) {
                continue;
            }
            let body = json!({ "blueprint": "p-2-b1", "title": "x" });
            let refused = match method {
                "POST" => asking.post(path, &body),
                _ => asking.get(path),
            };
            assert_eq!(refused.status, 403, "{path}: {refused:?}");
            assert_eq!(refused.text("/code"), "resource_not_permitted");
        }
        let projects = asking.get("/v1/projects");
        assert_eq!(projects.each("/items", "id"), ["p-1"]);
        let editions = asking.get("/v1/editions?limit=200");
        let of = editions.each("/items", "project");
        assert!(of.len() >= 36 && of.iter().all(|project| *project == "p-1"));
        assert_eq!(editions.body["next"], json!(null));

        // A permitted project in the query does not permit another one in the body, or the other way round.
        for (query, project, blueprint, status) in [
            ("p-1", json!("p-2"), "p-2-b1", 422),
            ("p-1", json!(null), "p-2-b1", 422),
            ("p-2", json!("p-1"), "p-1-b1", 403),
            ("p-2&project=p-1", json!("p-1"), "p-1-b1", 403),
            ("p-1&project=p-2", json!("p-2"), "p-2-b1", 403),
            ("p%2D2", json!("p-2"), "p-2-b1", 403),
        ] {
            let body = json!({ "blueprint": blueprint, "title": "x", "project": project });
            let refused = asking.post(&format!("/v1/editions?project={query}"), &body);
            assert_eq!(refused.status, status, "{query} {body}: {refused:?}");
        }
    }
    let after = (
        edition("p-2-b1-e012"),
        edition("p-2-b1-e001"),
        of_blueprint(),
    );
    assert_eq!(before, after, "what was refused has changed something");
}

#[test]
fn b3_a_key_may_have_several_projects() {
    let product = PROGRAM.start();
    let form = restricted("For two", &["admin"], &["p-2", "p-8"]);
    let asking = product.asking(&product.issue(&form));
    for (method, path, _) in routes() {
        let status = asking.send(method, path, None).status;
        assert!(![401, 403, 404].contains(&status), "{path}: {status}");
    }
    let new = json!({ "blueprint": "p-8-b1", "title": "x" });
    let created = asking.post("/v1/editions?project=p-8", &new);
    assert_eq!(created.status, 201, "{created:?}");
    let projects = asking.get("/v1/projects");
    assert_eq!(projects.each("/items", "id"), ["p-2", "p-8"]);
}

#[test]
fn b3_an_empty_restriction_is_an_error() {
    let product = PROGRAM.start();
    let only = |resources| json!({ "type": "only", "resources": resources });
    let forms = [
        only(json!([])),
        only(json!(null)),
        only(json!("project:p-1")),
        only(json!([""])),
        only(json!(["region:eu"])),
        only(json!(["project:p-1", "project:p-99"])),
        // Another workspace's.
        only(json!(["project:p-91"])),
        json!(null),
    ];
    product.refuses_forms(&forms.map(|resources| {
        let mut form = form("x", &["admin"]);
        form["resources"] = resources;
        form
    }));
    // Nor can a key be moved to a project that does not exist.
    let key = product.key("admin");
    let path = format!("/admin/keys/{}", text(&key, "id"));
    let moved = json!({ "resources": only(json!(["project:p-91"])) });
    let refused = product.admin.send("PATCH", &path, Some(&moved));
    assert_eq!(refused.status, 403, "{refused:?}");
    let moved = json!({ "resources": only(json!(["project:p-2"])) });
    let changed = product.admin.send("PATCH", &path, Some(&moved));
    assert_eq!(changed.body["resources"], moved["resources"], "{changed:?}");
}

#[test]
fn b3_workspaces_are_isolated() {
    let product = PROGRAM.start();
    let other = product.person("Borealis");
    let form = form("Theirs", &["admin"]);
    let theirs = other.post("/admin/keys", &form);
    assert_eq!(theirs.status, 201, "{theirs:?}");
    let asking = product.asking(&theirs.body);
    let projects = asking.get("/v1/projects");
    assert_eq!(projects.each("/items", "id"), ["p-91", "p-92", "p-93"]);
    let editions = asking.get("/v1/editions?limit=200");
    let of = editions.each("/items", "project");
    assert!(of.len() == 108 && of.iter().all(|project| project.starts_with("p-9")));
    for (method, path, _) in routes() {
        if ["/v1/projects", "/v1/editions"].contains(&path) {
            continue;
        }
        let body = json!({ "blueprint": "p-2-b1", "title": "x" });
        let body = (method == "POST").then_some(&body);
        assert_eq!(asking.send(method, path, body).status, 404, "{path}");
    }
    // A restricted key cannot distinguish another workspace's objects from nonexistent ones.
    let form = restricted("One", &["admin"], &["p-91"]);
    let restricted = product.asking(&other.post("/admin/keys", &form).body);
    for (method, path, _) in routes() {
        let body = json!({ "blueprint": "p-2-b1", "title": "x" });
        let body = (method == "POST").then_some(&body);
        let nobodys = path.replace("p-2", "p-77");
        let (theirs, none) = (
            restricted.send(method, path, body),
            restricted.send(method, &nobodys, body),
        );
        assert_eq!(
            (theirs.status, &theirs.body),
            (none.status, &none.body),
            "{path}"
        );
    }
    assert!(product.admin.get("/admin/keys").items("/keys").is_empty());
}
