//! Stock botocore clients against the gateway on a socket.
//!
//! Needs `python3` with botocore (`MINATO_PYTHON` names another interpreter);
//! `scripts/test` installs it.

use super::*;

/// The time botocore signs with.
struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        #[expect(
            clippy::disallowed_methods,
            reason = "the client is another process with the real time"
        )]
        let now = std::time::SystemTime::now();
        let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap())
    }
}

#[tokio::test]
async fn stock_clients_are_served_and_refused_in_their_own_words() {
    let gateway = Gateway::new(
        Echo,
        services(),
        Trust::Signatures,
        Arc::new(WallClock),
        Arc::new(Env(AtomicU64::new(1))),
    );
    let running = Running::over(gateway, Limits::default()).await;
    let python =
        std::env::var("MINATO_PYTHON").unwrap_or_else(|_| "python3".into());
    let script =
        concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/stock_client.py");
    let output = tokio::process::Command::new(python)
        .arg(script)
        .arg(format!("http://{}", running.address))
        .stderr(std::process::Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "the script fails; is botocore there?");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let root = "arn:aws:iam::000000000000:root";
    let expected = json!({
        "list": {"clusterArns": ["eu-west-1", root]},
        "fails": [500, "ServerException"],
        "panics": [500, "ServerException"],
        "identity": {"Arn": root, "Account": "000000000000",
            "UserId": "AKIDEXAMPLE"},
        "vpcs": {},
        "wrong ecs": [400, "InvalidSignatureException"],
        "wrong sts": [403, "SignatureDoesNotMatch"],
        "wrong ec2": [401, "AuthFailure"],
        "unknown ecs": [400, "UnrecognizedClientException"],
        "unknown sts": [403, "InvalidClientTokenId"],
        "unknown ec2": [401, "AuthFailure"],
    });
    assert_eq!(told, expected);
    running.stop().await;
}
