use proptest::prelude::*;

use super::*;

fn matches(pattern: &str, message: &str) -> bool {
    FilterPattern::parse(pattern)
        .unwrap_or_else(|e| panic!("{pattern}: {e}"))
        .matches(message)
}

fn kept<'a>(pattern: &str, messages: &[&'a str]) -> Vec<&'a str> {
    messages.iter().copied().filter(|m| matches(pattern, m)).collect()
}

const LINES: [&str; 5] = [
    "[ERROR 400] BAD REQUEST",
    "[ERROR 401] UNAUTHORIZED REQUEST",
    "[ERROR 419] MISSING ARGUMENTS",
    "[ERROR 420] INVALID ARGUMENTS",
    "[ERROR 500] INTERNAL SERVER ERROR",
];

#[test]
fn terms_as_the_guide_shows_them() {
    assert_eq!(kept("ERROR", &LINES), LINES);
    assert_eq!(kept("ERROR ARGUMENTS", &LINES), LINES[2..4]);
    assert_eq!(kept("?BAD ?ARGUMENTS", &LINES), [LINES[0], LINES[2], LINES[3]]);
    assert_eq!(kept("\"INTERNAL SERVER ERROR\"", &LINES), LINES[4..]);
    assert_eq!(
        kept("ERROR -ARGUMENTS", &LINES),
        [LINES[0], LINES[1], LINES[4]]
    );
    assert_eq!(kept("-\"BAD REQUEST\"", &LINES), LINES[1..]);
    assert_eq!(kept("\" \"", &LINES), LINES);
    assert_eq!(kept("", &LINES), LINES);
    assert!(kept("error", &LINES).is_empty(), "case matters");
    assert!(matches(r#""say \"hi\"""#, r#"they say "hi" to us"#));
}

#[test]
fn optional_terms_are_ignored_beside_others() {
    let request = kept("?ERROR ?ARGUMENTS REQUEST", &LINES);
    assert_eq!(request, LINES[..2]);
    assert_eq!(kept("?NOWHERE -REQUEST", &LINES), LINES[2..]);
}

#[test]
fn bare_terms_with_other_characters_need_quotes() {
    let refused = FilterPattern::parse("GET /index").unwrap_err();
    assert_eq!(refused.to_string(), "Invalid character(s) in term '/index'");
    assert!(FilterPattern::parse("\"never closed").is_err());
    assert!(FilterPattern::parse("?").is_err());
    assert!(FilterPattern::parse(&"a".repeat(1025)).is_err());
    assert!(FilterPattern::parse(&"a".repeat(1024)).is_ok());
}

#[test]
fn regular_expressions_of_the_documented_subset() {
    assert_eq!(kept("%AUTHORIZED%", &LINES), LINES[1..2]);
    assert!(matches("%^[hc]at%", "hat trick"));
    assert!(!matches("%^[hc]at%", "that"));
    assert!(matches("%[hc]at$%", "the cat"));
    assert!(matches("%colou?r%", "my color"));
    assert!(matches("%^a{3,5}$%", "aaaa"));
    assert!(!matches("%^a{,2}$%", "aaa"));
    assert!(matches("%^starting|^shutting down%", "shutting down now"));
    assert!(!matches("%^starting|^shutting down%", "not starting"));
    assert!(matches(r"%\[.\]%", "x [@] y"));
    assert!(matches(r"%10\.10\.0\.1%", "from 10.10.0.1"));
    assert!(!matches(r"%10\.10\.0\.1%", "10010,051"));
    assert!(matches(r"%\d\D\s\S\w\W%", "1a bc-"));
    assert!(matches(r"%[\d]x[\D]%", "1xy"));
    assert!(matches(r"%\x28%", "a ( b"));
    assert!(matches(r"%\x3a%", "a:b"));
    assert!(!matches(r"%^\w$%", "é"), "classes are ASCII");
}

#[test]
fn regular_expressions_outside_the_subset_are_refused() {
    for pattern in [
        "%something!%",
        "%(a|b)%",
        "%é%",
        r"%\bword%",
        r"%\xff%",
        r"%\xg0%",
        "%[a%",
        "%a{2%",
        "%*%",
        "%open",
        "%a% ERROR",
        "%((((%",
        "%a{1000}{1000}{1000}%",
    ] {
        assert!(FilterPattern::parse(pattern).is_err(), "{pattern}");
    }
}

const TRAIL: &str = r#"{"eventType":"UpdateTrail","sourceIPAddress":
"111.111.111.111","arrayKey":["value","another value"],"objectList":[
{"name":"a","id":1},{"name":"b","id":2}],"SomeObject":null,
"cluster.name":"c","bandwidth":80,"latency":12.5,"number":[1000],
"ok":true,"bad":false,"errorCode":"400"}"#;

#[test]
fn json_as_the_guide_shows_it() {
    for pattern in [
        r#"{ $.eventType = "UpdateTrail" }"#,
        r#"{$.eventType="UpdateTrail"}"#,
        "{ $.eventType = UpdateTrail }",
        "{ $.eventType = *Trail }",
        r#"{ $.eventType = "Up*Tr*l" }"#,
        "{ $.sourceIPAddress != 123.123.* }",
        r#"{ $.arrayKey[0] = "value" }"#,
        "{ $.eventType = %Trail% }",
        "{ $.arrayKey[*] = %val.{2}% }",
        r"{ $.* = %111\.111\.111\.1[0-9]{1,2}% }",
        "{ $.['cluster.name'] = \"c\" }",
        "{ $['cluster.name'] = \"c\" }",
        "{ $.SomeObject IS NULL }",
        "{ $.SomeOtherObject NOT EXISTS }",
        "{ $.ok IS TRUE && $.bad IS FALSE }",
        "{ $.bandwidth > 75 }",
        "{ $.latency < 50 }",
        "{ $.latency >= 12.5 && $.latency <= 12.5 }",
        "{ $.number[0] = 1e+3 }",
        "{ $.number[0] != 1e-3 }",
        "{ $.bandwidth = 8* }",
        "{ $.objectList[1].id = 2 }",
        "{ $.objectList[*].name = b }",
        "{ $.errorCode = 400 }",
    ] {
        assert!(matches(pattern, TRAIL), "{pattern}");
    }
}

#[test]
fn json_that_does_not_match() {
    for pattern in [
        r#"{ $.eventType = "Trail" }"#,
        "{ $.sourceIPAddress != 111.111.* }",
        "{ $.bandwidth > 80 }",
        "{ $.missing = 1 }",
        "{ $.missing != 1 }",
        "{ $.arrayKey = \"value\" }",
        "{ $.objectList[9].id = 2 }",
        "{ $.SomeObject NOT EXISTS }",
        "{ $.ok IS FALSE }",
        "{ $.eventType > 3 }",
    ] {
        assert!(!matches(pattern, TRAIL), "{pattern}");
    }
    assert!(!matches("{ $.a NOT EXISTS }", "not json"));
    assert!(!matches("{ $.a NOT EXISTS }", "{broken"));
}

const USERS: &str = r#"{"user":{"id":1,"email":"John.Stiles@example.com"},
"users":[{"id":2,"email":"John.Doe@example.com"},
{"id":3,"email":"Jane.Doe@example.com"}],"actions":["GET","PUT","DELETE"],
"coordinates":[[0,1,2],[4,5,6],[7,8,9]]}"#;

#[test]
fn compound_expressions_bind_as_the_guide_says() {
    assert!(matches(
        r#"{ ($.user.id = 1) && ($.users[0].email = "John.Doe@example.com") }"#,
        USERS
    ));
    assert!(matches(
        r#"{ $.user.email = "John.Stiles@example.com" || $.coordinates[0][1] = "nonmatch" && $.actions[2] = "nonmatch" }"#,
        USERS
    ));
    assert!(!matches(
        r#"{ ($.user.email = "John.Stiles@example.com" || $.coordinates[0][1] = "nonmatch") && $.actions[2] = "nonmatch" }"#,
        USERS
    ));
    assert!(!matches(
        r#"{ ($.user.id = 2 && $.users[0].email = "nonmatch") || $.actions[2] = "GET" }"#,
        USERS
    ));
    assert!(matches("{ $.coordinates[1][2] = 6 }", USERS));
}

#[test]
fn json_patterns_that_are_refused() {
    for pattern in [
        "{",
        "{}",
        "{ $ = 1 }",
        "{ $. = 1 }",
        "{ $.a }",
        "{ $.a = }",
        "{ $.a IS MAYBE }",
        "{ $.a EXISTS }",
        "{ $.a IS NOT NULL }",
        "{ $.a < \"x\" }",
        "{ $.a = 1 } trailing",
        "{ ($.a = 1 }",
        "{ $.*.b[*] = 1 }",
        "{ $.a[*]=1 && $.b[*]=1 && $.c[*]=1 && $.d[*]=1 }",
        "{ $.a = %x% && $.b = %x% && $.c = %x% }",
        "{ $.a[99999999999999999999999] = 1 }",
    ] {
        assert!(FilterPattern::parse(pattern).is_err(), "{pattern}");
    }
    let deep = format!("{{ {}$.a = 1{} }}", "(".repeat(70), ")".repeat(70));
    assert!(FilterPattern::parse(&deep).is_err());
}

const ACCESS: &str = "127.0.0.1 Prod frank [10/Oct/2000:13:25:15 -0700] \
     \"GET /index.html HTTP/1.0\" 404 1534";

#[test]
fn space_delimited_as_the_guide_shows_it() {
    for pattern in [
        r"[ip=%127\.0\.0\.[1-9]%, user, username, timestamp, request =*.html*, status_code = 4*, bytes]",
        "[..., request =*.html*, status_code = 4*, bytes]",
        "[ip, user, username, timestamp, request =*.html*, status_code = 404 || status_code = 410, bytes]",
        "[ip, ..., bytes > 1000]",
        "[ip = 127.*, ...]",
        "[ip, user != \"Dev\", ...]",
        "[ip, rest = Prod*1534]",
    ] {
        assert!(matches(pattern, ACCESS), "{pattern}");
    }
    for pattern in [
        "[..., status_code = 5*, bytes]",
        "[a, b, c, d, e, f, g, h]",
        "[ip, ..., bytes < 1000]",
        "[ip != 127.* && ip != 10.*, ...]",
    ] {
        assert!(!matches(pattern, ACCESS), "{pattern}");
    }
}

#[test]
fn fields_in_order() {
    let lines = [
        "INFO 09/25/2014 12:00:00 GET /service/resource/67 1200",
        "INFO 09/25/2014 12:00:01 POST /service/resource/67/part/111 1310",
        "WARNING 09/25/2014 12:00:02 Invalid user request",
        "ERROR 09/25/2014 12:00:02 Failed to process request",
    ];
    assert_eq!(kept("[w1=ERROR, w2]", &lines), lines[3..]);
    assert_eq!(kept("[w1=ERROR || w1=WARNING, w2]", &lines), lines[2..]);
    assert_eq!(kept("[w1!=ERROR && w1!=WARNING, w2]", &lines), lines[..2]);
    assert_eq!(
        kept(
            "[logLevel, date, time, method, url=%/service/resource/[0-9]+$%, response_time]",
            &lines
        ),
        lines[..1]
    );
    assert!(!matches("[w1=ERROR, w2]", "ERROR"));
    assert!(FilterPattern::parse("[a, zz = 1 && yy = 2]").is_err());
    assert!(FilterPattern::parse("[..., ...]").is_err());
    assert!(FilterPattern::parse("[]").is_err());
    assert!(FilterPattern::parse("[a").is_err());
}

#[test]
fn a_block_without_the_term_cannot_match() {
    let pattern = FilterPattern::parse("ERROR -x").unwrap();
    assert!(!pattern.could_match_in(b"INFO one INFO two"));
    assert!(pattern.could_match_in(b"INFO one ERROR x"));
}

proptest! {
    #[test]
    fn any_text_parses_or_is_refused(
        pattern in "\\PC{0,60}", message in "\\PC{0,60}",
    ) {
        if let Ok(parsed) = FilterPattern::parse(&pattern) {
            parsed.matches(&message);
        }
    }

    #[test]
    fn anything_like_a_pattern_parses_or_is_refused(
        pattern in r#"[{\[%?-]?[ {}\[\]().,$*'"%\\=!<>&|a-z0-9_-]{0,40}[}\]%]?"#,
        message in r#"[ {}\[\]:,"a-z0-9]{0,40}"#,
    ) {
        if let Ok(parsed) = FilterPattern::parse(&pattern) {
            parsed.matches(&message);
        }
    }

    #[test]
    fn a_quoted_phrase_is_a_substring_search(
        phrase in "[a-z .:/-]{1,6}", message in "[a-z .:/-]{0,30}",
    ) {
        prop_assume!(!phrase.trim().is_empty());
        let pattern = FilterPattern::parse(&format!("\"{phrase}\"")).unwrap();
        prop_assert_eq!(pattern.matches(&message), message.contains(&phrase));
        if pattern.matches(&message) {
            prop_assert!(pattern.could_match_in(message.as_bytes()));
        }
    }

    #[test]
    fn wildcards_agree_with_a_regular_expression(
        wild in "[ab*]{1,6}", text in "[ab]{0,8}",
    ) {
        let pattern = FilterPattern::parse(
            &format!("{{ $.k = \"{wild}\" }}")).unwrap();
        let regex = regex::Regex::new(
            &format!("^{}$", wild.replace('*', ".*"))).unwrap();
        prop_assert_eq!(
            pattern.matches(&format!("{{\"k\":\"{text}\"}}")),
            regex.is_match(&text)
        );
    }
}

#[test]
fn what_a_pattern_names_is_extracted() {
    let extract = |pattern: &str, message: &str| {
        let pattern = FilterPattern::parse(pattern).unwrap();
        assert!(pattern.matches(message));
        let found = pattern.extract(message).into_iter();
        let found: Vec<String> =
            found.map(|(name, value)| format!("{name}={value}")).collect();
        found.join(" ")
    };
    assert_eq!(
        extract(
            "{ $.latency > 50 && ($.tags[*] = b || $.no = 1) }",
            r#"{"latency": 75, "tags": ["a", "b"]}"#
        ),
        "$.latency=75 $.tags[*]=a"
    );
    assert_eq!(
        extract("[ip, user, ..., status=4*, size]", "1.2.3.4 ann x y 404 12"),
        "$ip=1.2.3.4 $size=12 $status=404 $user=ann"
    );
    assert_eq!(extract("ERROR", "an ERROR"), "");
}
