//! `minato env`: what points AWS clients at a running Minato.

use std::process::ExitCode;

use anyhow::Result;

use crate::home::Home;
use crate::out::say;

pub(crate) fn run(home: &Home) -> Result<ExitCode> {
    let running = home.running()?;
    let keys = home.existing_keys()?;
    let variables = [
        ("AWS_ENDPOINT_URL", running.endpoint()),
        ("AWS_ACCESS_KEY_ID", keys.root.access_key_id),
        ("AWS_SECRET_ACCESS_KEY", keys.root.secret_access_key),
        ("AWS_DEFAULT_REGION", running.region.clone()),
        ("AWS_REGION", running.region),
        // StartLiveTail's host would else get a prefix, and a name such as
        // `stream-127.0.0.1` leads nowhere.
        ("AWS_DISABLE_HOST_PREFIX_INJECTION", "true".to_owned()),
    ];
    for (name, value) in variables {
        say!("export {name}={value}")?;
    }
    // A token left from other credentials would make every call fail.
    say!("unset AWS_SESSION_TOKEN AWS_PROFILE")?;
    Ok(ExitCode::SUCCESS)
}
