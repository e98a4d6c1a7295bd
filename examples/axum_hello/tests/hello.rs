//! The program as a person uses it.

#[test]
fn a_key_is_issued_used_and_revoked() {
    example_driver::hello(env!("CARGO_BIN_EXE_axum_hello"));
}
