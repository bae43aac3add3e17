use super::fake::{FakeS3, NO_SUCH_KEY};
use super::*;
use crate::test_support::TestClock;

fn key() -> Credentials {
    Credentials {
        access_key_id: "AKID".into(),
        secret_access_key: "hush".into(),
        session_token: Some("token".into()),
    }
}

async fn get(
    config: &S3Config,
    bucket: &str,
    key_of: &str,
) -> Result<Bytes, ObjectError> {
    let (key, clock) = (key(), TestClock::new());
    let objects = Objects::new(config, &key, &clock).unwrap();
    objects.get(bucket, key_of).await
}

#[test]
fn an_endpoint_is_a_scheme_and_a_host() {
    for (text, shown) in [
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("http://minio:9000/", "http://minio:9000"),
        (
            "https://s3.eu-west-1.amazonaws.com",
            "https://s3.eu-west-1.amazonaws.com",
        ),
        ("http://[::1]:9000", "http://[::1]:9000"),
    ] {
        assert_eq!(S3Endpoint::parse(text).unwrap().to_string(), shown);
    }
    for text in [
        "",
        "minio:9000",
        "ftp://minio",
        "http://minio/path",
        "http://minio?x=1",
        "http://me:pw@minio",
        "http://a b",
    ] {
        assert!(S3Endpoint::parse(text).is_err(), "{text}");
    }
}

#[tokio::test]
async fn an_object_is_asked_for_with_a_signature() {
    let s3 = FakeS3::start().await;
    s3.answer("/b/a%20b/c.env", 200, b"A=1");
    let bytes = get(&s3.config(), "b", "a b/c.env").await.unwrap();
    assert_eq!(bytes, "A=1");
    let (_, headers) = &s3.asked()[0];
    let signed = headers["authorization"].to_str().unwrap();
    assert!(
        signed.contains("Credential=AKID/19700101/eu-west-1/s3/aws4_request"),
        "{signed}"
    );
    assert!(signed.contains(
        "SignedHeaders=host;x-amz-content-sha256;x-amz-date;\
         x-amz-security-token"
    ));
    assert_eq!(headers["x-amz-security-token"], "token");
}

#[tokio::test]
async fn an_error_is_told_in_the_servers_words() {
    let s3 = FakeS3::start().await;
    let why = async |path: &str| {
        get(&s3.config(), "b", path).await.unwrap_err().to_string()
    };
    assert_eq!(
        why("none.env").await,
        "NoSuchKey: The specified key does not exist. (status code 404)"
    );
    // It is meant, so it is not asked again.
    assert_eq!(s3.asked().len(), 1);
    s3.answer("/b/bare.env", 403, b"<html>");
    assert_eq!(why("bare.env").await, "Error: Forbidden (status code 403)");
    let long = format!(
        "<Error><Code>A\nB</Code><Message>{}</Message></Error>",
        "x".repeat(5000)
    );
    s3.answer("/b/long.env", 400, long.as_bytes());
    let long = why("long.env").await;
    assert!(long.starts_with("AB: xxx") && long.len() < 400, "{long}");
    s3.answer("/b/flood.env", 400, &vec![b'x'; ERROR_BYTES_MAX + 1]);
    assert!(why("flood.env").await.contains("status code 400"));
}

#[tokio::test]
async fn what_passes_is_tried_again_and_not_for_ever() {
    let s3 = FakeS3::start().await;
    s3.answer("/b/slow.env", 503, b"<Code>SlowDown</Code>");
    s3.answer("/b/slow.env", 200, b"A=1");
    get(&s3.config(), "b", "slow.env").await.unwrap();
    assert_eq!(s3.asked().len(), 2);
    s3.answer("/b/down.env", 500, NO_SUCH_KEY.as_bytes());
    get(&s3.config(), "b", "down.env").await.unwrap_err();
    assert_eq!(s3.asked().len(), 2 + ATTEMPTS as usize);
}

#[tokio::test]
async fn an_object_has_a_largest_size() {
    let s3 = FakeS3::start().await;
    s3.answer("/b/full.env", 200, &vec![b'x'; OBJECT_BYTES_MAX]);
    s3.answer("/b/over.env", 200, &vec![b'x'; OBJECT_BYTES_MAX + 1]);
    let full = get(&s3.config(), "b", "full.env").await.unwrap();
    assert_eq!(full.len(), OBJECT_BYTES_MAX);
    let error = get(&s3.config(), "b", "over.env").await.unwrap_err();
    assert!(matches!(error, ObjectError::TooLarge));
    assert_eq!(s3.asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let config = S3Config {
        endpoint: S3Endpoint::parse(&url).unwrap(),
        region: "us-east-1".into(),
        credentials: None,
    };
    let started = tokio::time::Instant::now();
    let error = get(&config, "b", "a.env").await.unwrap_err();
    assert!(matches!(error, ObjectError::TimedOut { .. }), "{error}");
    assert!(started.elapsed() <= OBJECT_TIMEOUT + Duration::from_secs(1));
    drop(listener);
    let error = get(&config, "b", "a.env").await.unwrap_err();
    let is_clear = matches!(
        error,
        ObjectError::Unreachable { .. } | ObjectError::TimedOut { .. }
    );
    assert!(is_clear, "{error}");
}
