//! GET URL with the key, with reqwest or ureq.

use std::env::{self, VarError};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let (url, key) = (env::var("URL")? + "/v1", env::var("KEY")?);
    match env::args().nth(1).ok_or(VarError::NotPresent)?.as_str() {
        "ureq" => drop(ureq::get(url).header("X-API-Key", key).call()?),
        _ => {
            let sent = reqwest::Client::new().get(url).bearer_auth(key).send();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            drop(runtime.block_on(sent)?);
        }
    }
    Ok(())
}
