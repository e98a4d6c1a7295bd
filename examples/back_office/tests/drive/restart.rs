//! Keys survive the process, however it ends.

use crate::Product;

#[test]
fn keys_and_revocations_survive_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.db");
    let product = Product::start_over(&file);
    let (kept, revoked) = (product.key("Settlement run"), product.key("Lost"));
    assert_eq!(product.act(&revoked, "revoke").status, 200);
    assert!(product.server.stop().success());

    // The first restart follows a clean stop, the second one a kill, as in a power failure.
    for _ in 0..2 {
        let product = Product::start_over(&file);
        assert_eq!(product.asking(&kept).get("/accounts").status, 200);
        assert_eq!(product.asking(&revoked).get("/accounts").status, 401);
        let list = product.admin.get("/admin/keys");
        assert_eq!(list.each("/keys", "name"), ["Settlement run", "Lost"]);
        assert_eq!(product.act(&revoked, "revoke").status, 409);
        product.server.kill();
    }
}
