"""Which crates' types and traits stand in Keyward's public interface: a new one is a promise to follow its versions.

Reads rustdoc's JSON of one set of features, as `.ci/run` writes it, and compares it with the list below.
Usage: foreign_types.py <keyward.json> core|all
"""
import json
import sys

ALLOWED = {
    # `async_trait` is re-exported for `KeyStore` and `Policy`; `serde` for views and events; `serde_json` for metadata.
    "core": {"async_trait", "serde", "serde_json", "time"},
    # Each adapter has its framework's types, and tower's inner services get `http_body_util::Limited` bodies.
    "all": {"actix_http", "actix_web", "axum", "bytes", "http", "http_body", "http_body_util", "tower"},
}
STANDARD = {"std", "core", "alloc"}
# The crates in which other crates' re-exported items are defined.
DEFINED_FOR = {
    "serde_core": "serde", "axum_core": "axum", "tower_layer": "tower", "tower_service": "tower",
    "actix_service": "actix_web", "actix_router": "actix_web",
}


def main():
    path, features = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        docs = json.load(file)
    index, paths = docs["index"], docs["paths"]
    names = {int(number): crate["name"] for number, crate in docs["external_crates"].items()}
    users = {}

    def note(identifier, item):
        """Records the crate that defines a type or trait which an item names."""
        known = paths.get(str(identifier))
        name = names.get(known["crate_id"]) if known else None
        if name and name != "pin_project_lite":  # its generated code is not public
            users.setdefault(DEFINED_FOR.get(name, name), []).append(item)

    def walk(node, item):
        """Finds the paths of types and traits anywhere in a signature."""
        if isinstance(node, list):
            for part in node:
                walk(part, item)
        elif isinstance(node, dict):
            if isinstance(node.get("id"), int) and "path" in node:
                note(node["id"], item)
            for part in node.values():
                walk(part, item)

    seen = set()

    def visit(identifier, inside):
        item = index.get(str(identifier))
        if item is None or identifier in seen:
            return
        seen.add(identifier)
        (kind, inner), = item["inner"].items()
        name = f"{inside}::{item['name']}".lstrip(":") if item["name"] else inside
        if kind == "use":
            target = inner["id"]
            if target is None or str(target) not in index:
                note(target, name)
            else:
                visit(target, inside)
            return
        if kind == "impl" and (inner["is_synthetic"] or inner["blanket_impl"]):
            return
        children = []
        for key in ("items", "impls", "variants"):
            children += inner.get(key) or [] if isinstance(inner, dict) else []
        if kind in ("struct", "variant"):
            fields = inner["kind"]
            if isinstance(fields, dict):
                (form, parts), = fields.items()
                children += parts["fields"] if isinstance(parts, dict) else [part for part in parts if part is not None]
        if isinstance(inner, dict):
            inner = {key: part for key, part in inner.items() if key not in ("items", "impls", "variants")}
        walk(inner, name)
        for child in children:
            visit(child, name)

    visit(docs["root"], "")
    if len(seen) < 500:
        sys.exit(f"only {len(seen)} public items were found in {path}: its format has changed")
    found = set(users) - STANDARD
    allowed = ALLOWED["core"] | (ALLOWED["all"] if features == "all" else set())
    for name in sorted(found - allowed):
        print(f"{name} stands in the public interface: {', '.join(sorted(set(users[name]))[:5])}", file=sys.stderr)
    for name in sorted(allowed - found):
        print(f"{name} is listed, and stands in the public interface no more", file=sys.stderr)
    if found != allowed:
        sys.exit(1)
    print(f"{features}: {len(seen)} public items name {', '.join(sorted(found))}")


main()
