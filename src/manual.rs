//! Guides.

pub mod migrating {
    //! x
}
pub mod writing_a_backend {
    //! x
}
