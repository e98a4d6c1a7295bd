//! The scopes of this product.

use keyward::key::{Scope, ScopeDeclaration};
use keyward::scope;

pub(crate) const READ_EDITIONS: Scope = scope!("read:editions");
pub(crate) const WRITE_EDITIONS: Scope = scope!("write:editions");
pub(crate) const READ_BLUEPRINTS: Scope = scope!("read:blueprints");
pub(crate) const READ_OUTPUTS: Scope = scope!("read:outputs");
pub(crate) const WRITE_OUTPUTS: Scope = scope!("write:outputs");
pub(crate) const READ_WORKSPACE: Scope = scope!("read:workspace");
const ADMIN: Scope = scope!("admin");

/// Returns all scopes. Only one implies others: a caller that may write editions need not be able to read them.
pub(crate) fn declared() -> [ScopeDeclaration; 7] {
    [
        READ_EDITIONS.described("Read editions, their sections and rows"),
        WRITE_EDITIONS.described("Create and submit editions"),
        READ_BLUEPRINTS.described("List the blueprints of a project"),
        READ_OUTPUTS.described("Download outputs"),
        WRITE_OUTPUTS.described("Generate outputs"),
        READ_WORKSPACE.described("List the projects of the workspace"),
        ADMIN
            .described("Everything that the others allow, within the key's projects")
            .implies_all(),
    ]
}
