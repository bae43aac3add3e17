use proptest::prelude::*;

use super::*;

const NOW: i64 = 1_767_323_045_678; // 2026-01-02T03:04:05.678Z

/// The rows of a query over messages a second apart, each row as
/// `name=value name=value`.
fn run_over(query: &str, messages: &[&str]) -> Vec<String> {
    let query = Query::parse(query).unwrap_or_else(|e| panic!("{query}: {e}"));
    let mut run = Run::new(&query, NOW, 10_000);
    for (sequence, message) in (0_u64..).zip(messages) {
        let seconds = i64::try_from(sequence).unwrap();
        run.push(&event(NOW + seconds * 1000, sequence, message)).unwrap();
    }
    let rows = run.finish().unwrap();
    let show = |row: ResultRow| {
        let fields = row.fields.into_iter();
        let fields: Vec<String> =
            fields.map(|(name, value)| format!("{name}={value}")).collect();
        fields.join(" ")
    };
    rows.into_iter().map(show).collect()
}

fn event(timestamp: i64, sequence: u64, message: &str) -> Event<'_> {
    Event {
        origin: Origin { timestamp, sequence, group: 1, stream: 2 },
        ingested_at: timestamp + 5,
        message,
        stream: "s",
        log: "000000000000:g",
    }
}

/// The value of one expression over one message.
fn value(expression: &str, message: &str) -> String {
    let query = format!("fields {expression} as x");
    let rows = run_over(&query, &[message]);
    rows[0].strip_prefix("x=").unwrap_or(&rows[0]).to_owned()
}

fn refused(query: &str) -> (String, usize, usize) {
    let error = Query::parse(query).unwrap_err();
    (error.message, error.start, error.end)
}

const WEB: [&str; 4] = [
    r#"{"level":"INFO","status":200,"ms":10,"user":{"name":"ann"}}"#,
    r#"{"level":"ERROR","status":500,"ms":30,"user":{"name":"bob"}}"#,
    r#"{"level":"INFO","status":200,"ms":20,"tags":["a","b"]}"#,
    "plain ERROR text",
];

#[test]
fn newest_events_come_first_with_time_and_message() {
    assert_eq!(
        run_over("limit 2", &["a", "b", "c"]),
        [
            "@timestamp=2026-01-02 03:04:07.678 @message=c",
            "@timestamp=2026-01-02 03:04:06.678 @message=b",
        ]
    );
    assert_eq!(
        run_over("fields @message | sort @timestamp asc", &["a", "b"]),
        ["@message=a", "@message=b"]
    );
    assert_eq!(
        run_over("fields @logStream, @log, @ingestionTime", &["a"]),
        ["@logStream=s @log=000000000000:g \
          @ingestionTime=2026-01-02 03:04:05.683"]
    );
}

#[test]
fn fields_of_json_are_discovered() {
    let rows = run_over("fields level, user.name, tags.1, none", &WEB);
    assert_eq!(
        rows,
        [
            "",
            "level=INFO tags.1=b",
            "level=ERROR user.name=bob",
            "level=INFO user.name=ann"
        ]
    );
    let odd = r#"{"a.b":{"c":1},"x-y":"z","big":12345678901234567890,"t":true,
        "n":null,"o":{"p":[1]}}"#;
    assert_eq!(value("a.b.c", odd), "1");
    assert_eq!(value("`x-y`", odd), "z");
    assert_eq!(value("big", odd), "12345678901234567890");
    assert_eq!(value("t", odd), "1");
    assert_eq!(value("ispresent(n)", odd), "0");
    assert_eq!(value("o", odd), r#"{"p":[1]}"#);
    assert_eq!(value("o.p.0", odd), "1");
    // Not JSON after all.
    assert_eq!(value("coalesce(a, 'none')", r#"{"a":1"#), "none");
    assert_eq!(value("coalesce(a, 'none')", r#"{"a":1} x"#), "none");
}

#[test]
fn filters_compare_as_the_guide_says() {
    let count = |filter: &str| {
        let query = format!("filter {filter} | stats count(*) as n");
        run_over(&query, &WEB)[0].clone()
    };
    assert_eq!(count("status = 200"), "n=2");
    assert_eq!(count("status = '200'"), "n=2");
    assert_eq!(count("status != 200"), "n=2");
    assert_eq!(count("status >= 200 and ms > 15"), "n=2");
    assert_eq!(count("level = 'INFO' or status = 500"), "n=3");
    assert_eq!(count("not (level = 'INFO')"), "n=2");
    assert_eq!(count("status in [500, 404]"), "n=1");
    assert_eq!(count("status not in [500, 404]"), "n=3");
    assert_eq!(count("@message like 'ERROR'"), "n=2");
    assert_eq!(count("@message like /(?i)error/"), "n=2");
    assert_eq!(count("@message =~ /E.ROR/"), "n=2");
    assert_eq!(count("@message not like /ERROR/"), "n=2");
    assert_eq!(count("ispresent(user.name)"), "n=2");
    assert_eq!(count("isempty(level)"), "n=1");
    assert_eq!(count("@logStream = 's' # all of them\n"), "n=4");
    assert_eq!(count("ms / 10 = 3"), "n=1");
}

#[test]
fn parse_takes_globs_and_expressions() {
    let lines = ["user=ann, ms=12", "user=bob, ms=30", "other"];
    assert_eq!(
        run_over(
            "parse @message 'user=*, ms=*' as who, ms \
             | filter ms > 20 | display who",
            &lines
        ),
        ["who=bob"]
    );
    assert_eq!(
        run_over(
            "parse /user=(?<who>\\w+), ms=(?<ms>\\d+)/ \
             | stats avg(ms) as mean, count(who) as n",
            &lines
        ),
        ["mean=21 n=2"]
    );
    assert_eq!(
        run_over("fields @message | parse 'user=*,' as who | limit 2", &lines),
        ["@message=other", "@message=user=bob, ms=30 who=bob"]
    );
    assert_eq!(
        run_over("parse @message /ms=(\\d+)/ as ms | display ms", &lines[..1]),
        ["ms=12"]
    );
}

#[test]
fn stats_group_and_name_their_columns() {
    assert_eq!(
        run_over("stats count(*), max(ms) as m by level", &WEB),
        [
            "count(*)=1",
            "level=ERROR count(*)=1 m=30",
            "level=INFO count(*)=2 m=20"
        ]
    );
    assert_eq!(
        run_over("stats count(*) by bin(2s) | sort bin(2s) asc", &WEB),
        [
            "bin(2s)=2026-01-02 03:04:04.000 count(*)=1",
            "bin(2s)=2026-01-02 03:04:06.000 count(*)=2",
            "bin(2s)=2026-01-02 03:04:08.000 count(*)=1"
        ]
    );
    assert_eq!(
        run_over(
            "stats sum(ms), avg( ms ), min(ms), pct(ms, 50), stddev(ms), \
             count_distinct(level), earliest(ms), latest(ms), \
             sortsFirst(level), sortsLast(level)",
            &WEB
        ),
        ["sum(ms)=60 avg(ms)=20 min(ms)=10 pct(ms,50)=20 stddev(ms)=8.165 \
          count_distinct(level)=2 earliest(ms)=10 latest(ms)=20 \
          sortsFirst(level)=ERROR sortsLast(level)=INFO"]
    );
    // Of nothing there is one row, but no group.
    assert_eq!(run_over("stats count(*) as n", &[]), ["n=0"]);
    assert!(run_over("stats count(*) by level", &[]).is_empty());
    // Twice, and with more behind it.
    assert_eq!(
        run_over(
            "stats count(*) as n by level | filter n > 1 \
             | stats count(*) as levels, sum(n) as events",
            &WEB
        ),
        ["levels=1 events=2"]
    );
    assert_eq!(
        run_over("stats count(*) as n by status | sort n desc | limit 1", &WEB),
        ["status=200 n=2"]
    );
    assert_eq!(
        run_over("stats sum(@message like /ERROR/) as errors", &WEB),
        ["errors=2"]
    );
}

#[test]
fn rows_are_sorted_naturally_and_deduplicated() {
    let lines: Vec<String> = ["b10", "b9", "a", "7", "b10"]
        .iter()
        .map(|v| format!(r#"{{"v":"{v}"}}"#))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert_eq!(
        run_over("fields v | sort v asc", &lines),
        ["v=a", "v=b9", "v=b10", "v=b10", "v=7"]
    );
    assert_eq!(
        run_over("fields v | sort v desc, @timestamp asc | dedup v", &lines),
        ["v=7", "v=b10", "v=b9", "v=a"]
    );
    assert_eq!(
        run_over("fields v | dedup v | limit 2", &lines),
        ["v=b10", "v=7"]
    );
    assert_eq!(
        run_over("fields v | sort v asc | filter v like 'b' | limit 1", &lines),
        ["v=b9"]
    );
}

#[test]
fn functions_give_what_the_guide_says() {
    let cases = [
        ("2 ^ 3 + 10 % 3 * 2", "10"),
        ("-(1 - 4) / 2", "1.5"),
        ("1 / 0", ""),
        ("1 / 3", "0.3333"),
        ("abs(-2)", "2"),
        ("ceil(1.2) + floor(1.8)", "3"),
        ("greatest(1, 5, 3) - least(4, 2)", "3"),
        ("sqrt(16)", "4"),
        ("log(1)", "0"),
        ("concat('a', 1, 'b')", "a1b"),
        ("trim('  x ')", "x"),
        ("ltrim('xxay', 'x')", "ay"),
        ("rtrim('axx', 'x')", "a"),
        ("strlen('é1')", "2"),
        ("toupper('a')", "A"),
        ("tolower('A')", "a"),
        ("substr('xyzfooxyz', 3)", "fooxyz"),
        ("substr('xyzfooxyz', 3, 4)", "foox"),
        ("replace('foo', 'o', '0')", "f00"),
        ("strcontains('abc', 'b')", "1"),
        ("isblank('  ')", "1"),
        ("isValidIp('::1')", "1"),
        ("isValidIpv4('::1')", "0"),
        ("isIpv4InSubnet('10.1.2.3', '10.0.0.0/8')", "1"),
        ("isIpv6InSubnet('2001:db8::1', '2001:db8::/32')", "1"),
        ("isIpInSubnet('11.1.2.3', '10.0.0.0/8')", "0"),
        ("datefloor(@timestamp, 1h)", "2026-01-02 03:00:00.000"),
        ("dateceil(@timestamp, 1d)", "2026-01-03 00:00:00.000"),
        ("fromMillis(0)", "1970-01-01 00:00:00.000"),
        ("toMillis(@timestamp)", "1767323045678"),
        ("now()", "1767323045"),
        ("bin(5m)", "2026-01-02 03:00:00.000"),
    ];
    for (expression, right) in cases {
        assert_eq!(value(expression, "m"), right, "{expression}");
    }
}

#[test]
fn errors_say_where() {
    let whole = |text: &str| (0, text.chars().count());
    let (message, start, end) = refused("filler x");
    assert_eq!(message, "unexpected symbol found filler");
    assert_eq!((start, end), (0, 6));
    let (_, start, end) = refused("fields é | limit x");
    assert_eq!((start, end), (17, 18));
    let (message, ..) = refused("fields frob(x)");
    assert_eq!(message, "unknown function frob");
    let (message, ..) = refused("pattern @message");
    assert_eq!(message, "Minato does not support the command pattern");
    let (message, ..) = refused("parse @message 'a' as b");
    assert_eq!(message, "there is no wildcard");
    let (_, start, end) = refused("filter x like /(/");
    assert_eq!((start, end), (14, 17));
    for text in [
        "",
        "|",
        "fields",
        "fields a b",
        "filter",
        "stats",
        "stats foo(x)",
        "limit 0",
        "limit 100001",
        "sort",
        "dedup",
        "filter a = ",
        "filter 'x",
        "parse @message /x/",
        "stats pct(a)",
        "fields bin(5)",
        "fields a as 1",
        "fields strlen()",
        "filter a in b",
        "fields a ; b",
        "stats count(*) by",
    ] {
        let (_, start, end) = refused(text);
        assert!(start <= end && end <= whole(text).1, "{text}");
    }
    let deep = format!("filter {}1{}", "(".repeat(100), ")".repeat(100));
    assert_eq!(refused(&deep).0, "the query nests too deep");
    let many = "fields a ".to_owned() + &"| limit 1".repeat(70);
    assert_eq!(refused(&many).0, "too many commands");
    let long = "x".repeat(10_001);
    assert!(refused(&long).0.contains("10000"));
}

#[test]
fn long_chains_do_not_nest() {
    let chain = format!("fields {}1 as x", "1+".repeat(4000));
    assert_eq!(run_over(&chain, &["m"]), ["x=4001"]);
    let chain = format!("filter {}a=1", "a=1 or ".repeat(1200));
    assert_eq!(run_over(&chain, &[r#"{"a":1}"#]).len(), 1);
    let chain = format!("filter {}a=2", "not ".repeat(2000));
    assert_eq!(run_over(&chain, &[r#"{"a":1}"#]).len(), 0);
}

#[test]
fn a_query_that_keeps_too_much_ends() {
    let query = Query::parse("stats count(*) by @message").unwrap();
    let mut run = Run::new(&query, NOW, 10_000);
    let message = "x".repeat(100_000);
    let mut failed = None;
    for sequence in 0..1000 {
        let message = format!("{sequence}{message}");
        if let Err(error) = run.push(&event(NOW, sequence, &message)) {
            failed = Some(error);
            break;
        }
    }
    assert_eq!(failed, Some(TooLarge));
}

#[test]
fn kept_rows_keep_what_is_shown_alone() {
    let query = Query::parse("fields @timestamp | sort strlen(@message)");
    let query = query.unwrap();
    let mut run = Run::new(&query, NOW, 10_000);
    let message = "x".repeat(100_000);
    for sequence in 0..2000 {
        run.push(&event(NOW, sequence, &message)).unwrap();
    }
    assert_eq!(run.finish().unwrap().len(), 2000);
}

#[test]
fn scans_are_told_what_cannot_count() {
    let query = Query::parse("filter @message like 'x' | limit 1").unwrap();
    assert!(query.could_match_in(b"..x.."));
    assert!(!query.could_match_in(b"....."));
    let mut run = Run::new(&query, NOW, 10_000);
    assert!(run.wants(0, NOW - 1));
    run.push(&event(NOW, 0, "x")).unwrap();
    assert!(!run.wants(0, NOW - 1));
    assert!(run.wants(0, NOW));
    // Not where the message is not the event's own any more.
    let query =
        Query::parse("fields 'x' as @message | filter @message like 'x'")
            .unwrap();
    assert!(query.could_match_in(b"....."));
}

proptest! {
    #[test]
    fn pointers_come_back(
        timestamp: i64, sequence: u64, group: u128, stream: u128,
    ) {
        let origin = Origin { timestamp, sequence, group, stream };
        prop_assert_eq!(Origin::parse(&origin.pointer()), Some(origin));
    }

    #[test]
    fn no_pointer_panics(text in "\\PC*") {
        let _ = Origin::parse(&text);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = Query::parse(&text);
    }

    /// Words of the language in any order: far more often queries, or nearly.
    #[test]
    fn no_query_panics(
        words in prop::collection::vec(prop::sample::select(vec![
            "fields", "display", "filter", "parse", "stats", "sort", "limit",
            "dedup", "|", ",", "(", ")", "[", "]", "=", "!=", "<", "+", "-",
            "*", "/", "^", "%", "and", "or", "not", "in", "like", "by", "as",
            "desc", "@message", "@timestamp", "a", "a.b.0", "`x y`", "'t*'",
            "\"q\"", "/r(?<n>.)/", "5", "5m", "1e400", "bin(", "count(",
            "count(*)", "sum(", "pct(", "strlen(", "substr(", "concat(", "#",
            "datefloor(", "fromMillis(", "true", "é",
        ]), 0..24),
        message in "\\PC{0,40}",
    ) {
        let Ok(query) = Query::parse(&words.join(" ")) else { return Ok(()) };
        let mut run = Run::new(&query, NOW, 100);
        for (at, text) in [(i64::MIN, "{\"a\":{\"b\":[1]}}"), (NOW, &message)] {
            run.push(&event(at, 1, text)).unwrap();
        }
        let rows = run.finish().unwrap();
        prop_assert!(rows.len() <= 100);
    }

    /// Leaving out what cannot count changes nothing.
    #[test]
    fn the_first_rows_do_not_depend_on_the_way_there(
        times in prop::collection::vec(0..50_i64, 1..60), limit in 1..8_usize,
    ) {
        let text = format!("fields @timestamp | limit {limit}");
        let query = Query::parse(&text).unwrap();
        let answer = |events: &mut dyn Iterator<Item = (u64, i64)>| {
            let mut run = Run::new(&query, NOW, 10_000);
            for (sequence, at) in events {
                if run.wants(at, at) {
                    run.push(&event(at, sequence, "m")).unwrap();
                }
            }
            run.finish().unwrap()
        };
        let events: Vec<(u64, i64)> = (0..).zip(times).collect();
        let forward = answer(&mut events.iter().copied());
        let backward = answer(&mut events.iter().rev().copied());
        prop_assert_eq!(forward, backward);
    }
}
