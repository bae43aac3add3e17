use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request as oracle;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;

use super::*;
use crate::Timestamp;
use crate::model::{JsonVersion, Protocol};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const NOW: Timestamp = Timestamp::from_millis(1_795_350_290_000);
const ECS: Expected<'static> =
    Expected { signing_name: "ecs", skew_minutes: 5 };

#[derive(Clone, Debug)]
struct Sent {
    method: Method,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Sent {
    fn post(body: &[u8]) -> Sent {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "127.0.0.1:4566"),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-target", "AmazonEC2ContainerServiceV20141113.ListTasks"),
            ("user-agent", "test/1"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        Sent {
            method: Method::POST,
            path: "/".into(),
            query: None,
            headers,
            body: body.to_vec(),
        }
    }

    fn parts(&self) -> RequestParts<'_> {
        RequestParts {
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
            body: &self.body,
        }
    }

    fn signed(mut self, signer: &Signer<'_>) -> Sent {
        let (path, query) = (self.path.clone(), self.query.clone());
        sign(
            signer,
            &self.method,
            (&path, query.as_deref()),
            &mut self.headers,
            &self.body,
        )
        .unwrap();
        self
    }

    fn check(&self) -> Result<Proof, AuthError> {
        self.check_with(KEY, NOW)
    }

    fn check_with(
        &self,
        key: Key<'_>,
        now: Timestamp,
    ) -> Result<Proof, AuthError> {
        let parts = self.parts();
        Unverified::parse(&parts)?.verify(
            &parts,
            key,
            ECS,
            now,
            &KeyCache::new(),
        )
    }

    fn set(&mut self, name: &'static str, value: &str) {
        self.headers.insert(name, HeaderValue::from_str(value).unwrap());
    }

    fn authorization(&self) -> &str {
        self.headers["authorization"].to_str().unwrap()
    }

    fn replace(&mut self, from: &str, to: &str) {
        let text = self.authorization();
        assert!(text.contains(from), "{text} has no {from}");
        let text = text.replacen(from, to, 1);
        self.set("authorization", &text);
    }
}

const KEY: Key<'static> =
    Key { secret: SECRET, session_token: None, expires_at: None };

fn signer() -> Signer<'static> {
    Signer {
        access_key_id: "AKIDEXAMPLE",
        secret: SECRET,
        session_token: None,
        region: "us-west-2",
        service: "ecs",
        now: NOW,
    }
}

/// Signs with the AWS SDK's own crate.
fn signed_by_oracle(
    sent: Sent,
    token: Option<&str>,
    presign: Option<Duration>,
) -> Sent {
    let mut settings = oracle::SigningSettings::default();
    if presign.is_some() {
        settings.signature_location = oracle::SignatureLocation::QueryParams;
        settings.expires_in = presign;
    }
    signed_by_oracle_for("ecs", sent, token, settings)
}

fn signed_by_oracle_for(
    service: &str,
    mut sent: Sent,
    token: Option<&str>,
    settings: oracle::SigningSettings,
) -> Sent {
    let identity = Credentials::new(
        "AKIDEXAMPLE",
        SECRET,
        token.map(str::to_owned),
        None,
        "test",
    )
    .into();
    let millis = u64::try_from(NOW.as_millis()).unwrap();
    let params = aws_sigv4::sign::v4::SigningParams::builder()
        .identity(&identity)
        .region("us-west-2")
        .name(service)
        .time(UNIX_EPOCH + Duration::from_millis(millis))
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let host = sent.headers["host"].to_str().unwrap().to_owned();
    let query = sent.query.clone().map(|query| format!("?{query}"));
    let uri =
        format!("http://{host}{}{}", sent.path, query.unwrap_or_default());
    let headers: Vec<(String, String)> = sent
        .headers
        .iter()
        .map(|(name, value)| {
            (name.to_string(), value.to_str().unwrap().to_owned())
        })
        .collect();
    let request = oracle::SignableRequest::new(
        sent.method.as_str(),
        uri.clone(),
        headers.iter().map(|(name, value)| (name.as_str(), value.as_str())),
        oracle::SignableBody::Bytes(&sent.body),
    )
    .unwrap();
    let (instructions, _) =
        oracle::sign(request, &params).unwrap().into_parts();
    let mut request = http::Request::builder().uri(uri).body(()).unwrap();
    instructions.apply_to_request_http1x(&mut request);
    for (name, value) in request.headers() {
        sent.headers.insert(name, value.clone());
    }
    sent.path = request.uri().path().to_owned();
    sent.query = request.uri().query().map(str::to_owned);
    sent
}

#[test]
fn what_the_sdk_signs_is_verified() {
    let proof =
        signed_by_oracle(Sent::post(b"{}"), None, None).check().unwrap();
    assert_eq!(proof.access_key_id(), "AKIDEXAMPLE");
    assert_eq!(proof.region(), "us-west-2");
    assert_eq!(proof.service(), "ecs");
    assert_eq!(proof.signed_at(), NOW);
}

#[test]
fn what_the_sdk_presigns_is_verified_until_it_expires() {
    let mut sent = Sent::post(b"");
    sent.method = Method::GET;
    sent.headers.remove("x-amz-target");
    sent.query = Some("Action=GetCallerIdentity&b=%2F+x".into());
    let week = Duration::from_secs(604_800);
    let sent = signed_by_oracle(sent, None, Some(week));
    sent.check().unwrap();
    let end = NOW.plus_millis(604_800_000);
    sent.check_with(KEY, end).unwrap();
    let late = sent.check_with(KEY, end.plus_millis(1000)).unwrap_err();
    assert!(late.to_string().starts_with("Signature expired: 20261122T"));
}

#[test]
fn what_we_presign_is_verified() {
    let key = Key { session_token: Some("to/ken=="), ..KEY };
    let signer = Signer { session_token: key.session_token, ..signer() };
    let query = presign(&signer, "h:1", ("/a b", Some("x=1")), 60).unwrap();
    let mut sent = Sent::post(b"");
    sent.method = Method::GET;
    sent.headers.clear();
    sent.set("host", "h:1");
    sent.path = "/a b".into();
    sent.query = Some(query);
    sent.check_with(key, NOW).unwrap();
    assert_eq!(sent.check(), Err(AuthError::UnknownKey));
    assert_eq!(
        presign(&signer, "h", ("/", None), 604_801),
        Err(PresignError::Expires(604_801))
    );
}

#[test]
fn presigned_requests_have_limits() {
    let mut sent = Sent::post(b"");
    sent.headers.clear();
    sent.set("host", "h");
    let query = presign(&signer(), "h", ("/", None), 60).unwrap();
    for (from, to, text) in [
        ("Expires=60", "Expires=0", "X-Amz-Expires must be non-negative"),
        ("Expires=60", "Expires=x", "X-Amz-Expires should be a number"),
        ("Expires=60", "Expires=604801", "less than a week"),
        ("X-Amz-Date", "X-Amz-Dale", "must include 'X-Amz-Date'."),
        ("X-Amz-Date=", "X-Amz-Date=1&X-Amz-Date=", "only once"),
    ] {
        sent.query = Some(query.replacen(from, to, 1));
        let error = sent.check().unwrap_err();
        assert!(matches!(error, AuthError::Incomplete(_)), "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn a_request_without_a_signature_says_so() {
    let error = Sent::post(b"{}").check().unwrap_err();
    assert_eq!(error, AuthError::Missing);
    let json = error.to_api_error(Protocol::AwsJson(JsonVersion::V1_1));
    assert_eq!(json.code(), "MissingAuthenticationTokenException");
    assert_eq!(
        (json.status(), json.message()),
        (400, "Missing Authentication Token")
    );
    let query = error.to_api_error(Protocol::Query);
    assert_eq!(
        (query.code(), query.status()),
        ("MissingAuthenticationToken", 403)
    );
}

#[test]
fn temporary_credentials_need_their_token_and_end() {
    let key = Key { session_token: Some("token"), ..KEY };
    let with = |token| {
        let signer = Signer { session_token: token, ..signer() };
        Sent::post(b"{}").signed(&signer)
    };
    with(Some("token")).check_with(key, NOW).unwrap();
    for (sent, key) in [
        (with(Some("other")), key),
        (with(None), key),
        (with(Some("token")), KEY),
    ] {
        assert_eq!(sent.check_with(key, NOW), Err(AuthError::UnknownKey));
    }
    let ended = Key { expires_at: Some(NOW), ..key };
    assert_eq!(
        with(Some("token")).check_with(ended, NOW),
        Err(AuthError::ExpiredToken)
    );
    signed_by_oracle(Sent::post(b"{}"), Some("token"), None)
        .check_with(key, NOW)
        .unwrap();
}

#[test]
fn five_minutes_of_skew_are_taken() {
    let sent = Sent::post(b"{}").signed(&signer());
    sent.check_with(KEY, NOW.plus_millis(300_000)).unwrap();
    sent.check_with(KEY, NOW.plus_millis(-300_000)).unwrap();
    let late = sent.check_with(KEY, NOW.plus_millis(301_000)).unwrap_err();
    assert_eq!(
        late.to_string(),
        "Signature expired: 20261122T122450Z is now earlier than \
         20261122T122451Z (20261122T122951Z - 5 min.)"
    );
    let early = sent.check_with(KEY, NOW.plus_millis(-301_000)).unwrap_err();
    assert_eq!(
        early.to_string(),
        "Signature not yet current: 20261122T122450Z is still later than \
         20261122T122449Z (20261122T121949Z + 5 min.)"
    );
}

#[test]
fn the_scope_must_fit() {
    let cases = [
        ("/ecs/", "/s3/", "correct service: 'ecs'."),
        ("aws4_request", "aws5", "valid terminator: 'aws4_request'"),
        ("/us-west-2/", "/US_WEST/", "valid region, not 'US_WEST'."),
        ("/20261122/", "/20261121/", "'20261121' != '20261122'"),
    ];
    for (from, to, text) in cases {
        let mut sent = Sent::post(b"{}").signed(&signer());
        sent.replace(from, to);
        let error = sent.check().unwrap_err();
        assert!(matches!(error, AuthError::Scope(_)), "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn host_and_amz_headers_must_be_signed() {
    let mut sent = Sent::post(b"{}").signed(&signer());
    sent.set("x-amz-later", "1");
    assert_eq!(
        sent.check().unwrap_err().to_string(),
        "'x-amz-later' must be a 'SignedHeader' in the AWS Authorization."
    );
    let mut sent = Sent::post(b"{}").signed(&signer());
    sent.replace("content-type;host;", "content-type;");
    assert_eq!(
        sent.check().unwrap_err().to_string(),
        "'Host' or ':authority' must be a 'SignedHeader' in the AWS \
         Authorization."
    );
}

#[test]
fn a_broken_authorization_header_is_told_apart() {
    for (from, to, text) in [
        ("Credential=", "Kredential=", "requires 'Credential' parameter."),
        ("Signature=", "Zignature=", "requires 'Signature' parameter."),
        ("SignedHeaders=", "S=", "requires 'SignedHeaders' parameter."),
        ("AWS4-HMAC-SHA256", "Basic", "Unsupported algorithm 'Basic'."),
        ("/aws4_request", "", "exactly 5 slash-delimited elements"),
        ("Signature=", "Signature=1, Signature=", "more than one"),
    ] {
        let mut sent = Sent::post(b"{}").signed(&signer());
        sent.replace(from, to);
        let error = sent.check().unwrap_err();
        assert!(matches!(error, AuthError::Incomplete(_)), "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
    }
    let mut sent = Sent::post(b"{}").signed(&signer());
    sent.set("x-amz-date", "yesterday");
    let error = sent.check().unwrap_err();
    assert!(error.to_string().contains("Got 'yesterday'"), "{error}");
    let mut sent = Sent::post(b"{}").signed(&signer());
    let again = sent.headers["authorization"].clone();
    sent.headers.append("authorization", again);
    assert!(matches!(sent.check(), Err(AuthError::Incomplete(_))));
    let mut sent = Sent::post(b"{}").signed(&signer());
    sent.query = Some("X-Amz-Signature=0".into());
    assert!(matches!(sent.check(), Err(AuthError::Incomplete(_))));
}

#[test]
fn a_wrong_secret_or_signature_is_refused() {
    let sent = Sent::post(b"{}").signed(&signer());
    let wrong = Key { secret: "other", ..KEY };
    assert_eq!(sent.check_with(wrong, NOW), Err(AuthError::Mismatch));
    for to in ["Signature=zz", "Signature=0"] {
        let mut sent = sent.clone();
        sent.replace("Signature=", to);
        assert_eq!(sent.check(), Err(AuthError::Mismatch));
    }
}

#[test]
fn an_unsigned_payload_must_be_declared_and_a_declared_hash_must_hold() {
    let mut sent = Sent::post(b"{}");
    sent.set("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
    let signed = {
        let mut headers = sent.headers.clone();
        headers
            .insert("x-amz-date", HeaderValue::from_static("20261122T122450Z"));
        let names = [
            "content-type",
            "host",
            "x-amz-content-sha256",
            "x-amz-date",
            "x-amz-target",
        ];
        let parts = RequestParts { headers: &headers, ..sent.parts() };
        let canonical = canonical::request(&parts, &names, "UNSIGNED-PAYLOAD");
        let scope = "20261122/us-west-2/ecs/aws4_request";
        let text =
            canonical::string_to_sign("20261122T122450Z", scope, &canonical);
        let key = keys::derive(SECRET, "20261122", "us-west-2", "ecs");
        let tag = aws_lc_rs::hmac::sign(&key, text.as_bytes());
        let mut sent = Sent { headers, ..sent };
        sent.set(
            "authorization",
            &format!(
                "AWS4-HMAC-SHA256 Credential=A/{scope}, SignedHeaders={}, \
             Signature={}",
                names.join(";"),
                canonical::hex(tag.as_ref())
            ),
        );
        sent
    };
    signed.check().unwrap();
    let other = Sent { body: b"other".to_vec(), ..signed.clone() };
    other.check().unwrap();

    let mut sent = Sent::post(b"{}");
    sent.set("x-amz-content-sha256", &canonical::hex_sha256(b"{}"));
    let mut sent = sent.signed(&signer());
    sent.check().unwrap();
    sent.body = b"[]".to_vec();
    assert_eq!(sent.check(), Err(AuthError::PayloadHash));
}

/// What other servers have been talked into.
#[test]
fn what_is_added_or_weakened_is_refused() {
    // A second header of a name: which of them was signed?
    for name in ["x-amz-target", "x-amz-date", "host"] {
        let mut sent = Sent::post(b"{}").signed(&signer());
        let again = sent.headers[name].clone();
        sent.headers.append(name, again);
        assert_eq!(sent.check(), Err(AuthError::Mismatch), "{name}");
    }
    // Parameters that were not there when it was signed.
    let mut sent = Sent::post(b"{}").signed(&signer());
    sent.query = Some("Action=RunTask".into());
    assert_eq!(sent.check(), Err(AuthError::Mismatch));
    // Algorithms of less, of none, and of another key.
    for other in ["none", "AWS4-HMAC-SHA1", "AWS4-ECDSA-P256-SHA256", "AWS3"] {
        let mut sent = Sent::post(b"{}").signed(&signer());
        sent.replace("AWS4-HMAC-SHA256", other);
        assert!(matches!(sent.check(), Err(AuthError::Incomplete(_))));
    }
    // A body that claims to be signed in chunks, or not at all, afterwards.
    for claim in ["STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "UNSIGNED-PAYLOAD"] {
        let mut sent = Sent::post(b"{}");
        sent.set("x-amz-content-sha256", &canonical::hex_sha256(b"{}"));
        let mut sent = sent.signed(&signer());
        sent.set("x-amz-content-sha256", claim);
        sent.body = b"other".to_vec();
        assert!(sent.check().is_err(), "{claim}");
    }
    let mut chunked = Sent::post(b"{}");
    let claim = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
    chunked.set("x-amz-content-sha256", claim);
    let chunked = chunked.signed(&signer());
    assert_eq!(chunked.check(), Err(AuthError::PayloadHash));
    // Nothing signed, and headers that are not there.
    for headers in ["", "host", "content-type;host;x-amz-date;x-amz-nothing"] {
        let mut sent = Sent::post(b"{}").signed(&signer());
        let named = sent.authorization().to_owned();
        let start = named.find("SignedHeaders=").unwrap();
        let end = named[start..].find(',').unwrap() + start;
        let named = format!(
            "{}SignedHeaders={headers}{}",
            &named[..start],
            &named[end..]
        );
        sent.set("authorization", &named);
        assert!(sent.check().is_err(), "{headers}");
    }
}

#[test]
fn only_rightly_signed_requests_leave_a_key() {
    let keys = KeyCache::new();
    let sent = Sent::post(b"{}").signed(&signer());
    let parts = sent.parts();
    let check = |key| {
        Unverified::parse(&parts).unwrap().verify(&parts, key, ECS, NOW, &keys)
    };
    check(Key { secret: "wrong", ..KEY }).unwrap_err();
    assert_eq!(keys.len(), 0);
    check(KEY).unwrap();
    check(KEY).unwrap();
    assert_eq!(keys.len(), 1);
}

#[test]
fn secrets_stay_out_of_debug_output() {
    assert!(!format!("{KEY:?} {:?}", signer()).contains(SECRET));
}

#[test]
fn the_path_of_an_object_is_encoded_but_for_its_slashes() {
    for (key, path) in [
        ("app.env", "/b/app.env"),
        ("a b/c+d.env", "/b/a%20b/c%2Bd.env"),
        ("a//../ü%.env", "/b/a//../%C3%BC%25.env"),
        ("?#.env", "/b/%3F%23.env"),
    ] {
        assert_eq!(s3_object_path("b", key), path);
    }
}

fn any_request() -> impl Strategy<Value = Sent> {
    let path = "(/[a-zA-Z0-9._~-]{0,8}){1,3}";
    let query = proptest::option::of(
        "[a-z]{1,5}=[a-zA-Z0-9%20]{0,5}(&[a-c]=[a-z.~-]{0,3}){0,3}",
    );
    let body = proptest::collection::vec(any::<u8>(), 0..64);
    let value = "[!-~]{1,20}( {1,3}[!-~]{1,5})?";
    (path, query, body, value).prop_map(|(path, query, body, value)| {
        let mut sent = Sent::post(&body);
        let query = query.map(|query: String| query.replace('%', "%25"));
        (sent.path, sent.query) = (path, query);
        sent.set("x-amz-meta", &value);
        sent
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn we_verify_what_the_sdk_signs(sent in any_request()) {
        prop_assert!(signed_by_oracle(sent, None, None).check().is_ok());
    }

    #[test]
    fn we_sign_as_the_sdk_does(sent in any_request()) {
        let mut plain = sent.clone();
        // The SDK also signs the user agent's absence; ours is not signed.
        plain.headers.remove("user-agent");
        let ours = plain.clone().signed(&signer());
        let theirs = signed_by_oracle(plain, None, None);
        prop_assert_eq!(ours.authorization(), theirs.authorization());
    }

    #[test]
    fn we_sign_for_s3_as_the_sdk_does(
        bucket in "[a-z0-9][a-z0-9.-]{1,20}",
        key in "[ -~é]{1,8}(/{1,2}[ -~ü.]{1,6}){0,3}[.]env",
    ) {
        let mut sent = Sent::post(b"");
        sent.method = Method::GET;
        sent.path = s3_object_path(&bucket, &key);
        for name in ["content-type", "x-amz-target", "user-agent"] {
            sent.headers.remove(name);
        }
        let to_s3 = Signer {
            service: "s3", session_token: Some("t/+="), ..signer()
        };
        let ours = sent.clone().signed(&to_s3);
        let mut settings = oracle::SigningSettings::default();
        settings.percent_encoding_mode = oracle::PercentEncodingMode::Single;
        settings.uri_path_normalization_mode =
            oracle::UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind =
            oracle::PayloadChecksumKind::XAmzSha256;
        let theirs =
            signed_by_oracle_for("s3", sent, Some("t/+="), settings);
        prop_assert_eq!(ours.authorization(), theirs.authorization());
    }

    #[test]
    fn any_changed_byte_is_refused(
        sent in any_request(),
        place in any::<prop::sample::Index>(),
        change in 1_u8..=255,
    ) {
        let sent = sent.signed(&signer());
        let mut changed = sent.clone();
        if sent.body.is_empty() {
            changed.body.push(change);
        } else {
            let at = place.index(sent.body.len());
            changed.body[at] ^= change;
        }
        prop_assert_eq!(changed.check(), Err(AuthError::Mismatch));

        for name in ["host", "x-amz-target", "x-amz-meta", "content-type"] {
            let mut changed = sent.clone();
            let mut value = changed.headers[name].as_bytes().to_vec();
            let at = place.index(value.len());
            // Another printable character, not a space.
            value[at] = if value[at] == b'~' { b'!' } else { b'~' };
            let value = HeaderValue::from_bytes(&value).unwrap();
            changed.headers.insert(HeaderName::from_static(name), value);
            prop_assert!(changed.check().is_err());
        }
        let mut changed = sent.clone();
        changed.path.push('x');
        prop_assert!(changed.check().is_err());
        let mut changed = sent.clone();
        changed.query = Some("added=1".into());
        prop_assert!(changed.check().is_err());
        let mut changed = sent;
        changed.method = Method::GET;
        prop_assert!(changed.check().is_err());
    }

    #[test]
    fn no_header_or_query_panics(
        header in "[ -~]{0,120}",
        query in ".{0,120}",
        date in "[ -~]{0,20}",
    ) {
        let mut sent = Sent::post(b"{}");
        sent.set("authorization", &format!("AWS4-HMAC-SHA256 {header}"));
        sent.set("x-amz-date", &date);
        let _ = sent.check();
        sent.headers.remove("authorization");
        sent.query = Some(format!("X-Amz-Algorithm=a&{query}"));
        let _ = sent.check();
    }
}
