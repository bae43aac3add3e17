//! The functions of the language
//! (`CWL_QuerySyntax-operations-functions` in the user guide).

use std::borrow::Cow;
use std::cmp::Ordering;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::time::Period;
use super::value::{Value, float, whole};

/// Text that one function may make: `concat` and `replace` over a 1 MiB
/// message stay below, nesting them without end does not.
const MAX_TEXT: usize = 4 * 1024 * 1024;

/// A function, with what of its arguments is known when it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Abs,
    Ceil,
    Floor,
    Greatest,
    Least,
    Log,
    Sqrt,
    DateFloor(Period),
    DateCeil(Period),
    FromMillis,
    ToMillis,
    Now,
    IsPresent,
    Coalesce,
    IsValidIp,
    IsValidIpv4,
    IsValidIpv6,
    IsIpInSubnet,
    IsIpv4InSubnet,
    IsIpv6InSubnet,
    IsEmpty,
    IsBlank,
    Concat,
    LTrim,
    RTrim,
    Trim,
    StrLen,
    ToUpper,
    ToLower,
    Substr,
    Replace,
    StrContains,
}

/// Names with the least and most arguments. `bin`, `datefloor` and
/// `dateceil`, which take a period, are the parser's.
const TABLE: &[(&str, Function, usize, usize)] = &[
    ("abs", Function::Abs, 1, 1),
    ("ceil", Function::Ceil, 1, 1),
    ("floor", Function::Floor, 1, 1),
    ("greatest", Function::Greatest, 1, usize::MAX),
    ("least", Function::Least, 1, usize::MAX),
    ("log", Function::Log, 1, 1),
    ("sqrt", Function::Sqrt, 1, 1),
    ("fromMillis", Function::FromMillis, 1, 1),
    ("toMillis", Function::ToMillis, 1, 1),
    ("now", Function::Now, 0, 0),
    ("ispresent", Function::IsPresent, 1, 1),
    ("coalesce", Function::Coalesce, 1, usize::MAX),
    ("isValidIp", Function::IsValidIp, 1, 1),
    ("isValidIpv4", Function::IsValidIpv4, 1, 1),
    ("isValidIpv6", Function::IsValidIpv6, 1, 1),
    ("isIpInSubnet", Function::IsIpInSubnet, 2, 2),
    ("isIpv4InSubnet", Function::IsIpv4InSubnet, 2, 2),
    ("isIpv6InSubnet", Function::IsIpv6InSubnet, 2, 2),
    ("isempty", Function::IsEmpty, 1, 1),
    ("isblank", Function::IsBlank, 1, 1),
    ("concat", Function::Concat, 1, usize::MAX),
    ("ltrim", Function::LTrim, 1, 2),
    ("rtrim", Function::RTrim, 1, 2),
    ("trim", Function::Trim, 1, 2),
    ("strlen", Function::StrLen, 1, 1),
    ("toupper", Function::ToUpper, 1, 1),
    ("tolower", Function::ToLower, 1, 1),
    ("substr", Function::Substr, 2, 3),
    ("replace", Function::Replace, 3, 3),
    ("strcontains", Function::StrContains, 2, 2),
];

impl Function {
    /// A function by its name, in any case, with the numbers of arguments
    /// that it takes.
    pub(super) fn named(name: &str) -> Option<(Function, usize, usize)> {
        TABLE
            .iter()
            .find(|(known, ..)| known.eq_ignore_ascii_case(name))
            .map(|(_, function, least, most)| (*function, *least, *most))
    }

    /// Its value. `now` is when the query began, in milliseconds.
    pub(super) fn call<'a>(
        self,
        arguments: Vec<Value<'a>>,
        now: i64,
    ) -> Value<'a> {
        use Function::{
            Abs, Ceil, Coalesce, Concat, DateCeil, DateFloor, Floor,
            FromMillis, Greatest, IsBlank, IsEmpty, IsIpInSubnet,
            IsIpv4InSubnet, IsIpv6InSubnet, IsPresent, IsValidIp, IsValidIpv4,
            IsValidIpv6, LTrim, Least, Log, Now, RTrim, Replace, Sqrt,
            StrContains, StrLen, Substr, ToLower, ToMillis, ToUpper, Trim,
        };
        match self {
            Now => Value::Number(float(now.div_euclid(1000))),
            Abs => numeric(&arguments, f64::abs),
            Ceil => numeric(&arguments, f64::ceil),
            Floor => numeric(&arguments, f64::floor),
            Log => numeric(&arguments, f64::ln),
            Sqrt => numeric(&arguments, f64::sqrt),
            Greatest => extreme(arguments, Ordering::Greater),
            Least => extreme(arguments, Ordering::Less),
            DateFloor(period) => {
                timed(&arguments, |at| Value::Time(period.floor(at)))
            }
            DateCeil(period) => {
                timed(&arguments, |at| Value::Time(period.ceil(at)))
            }
            FromMillis => timed(&arguments, Value::Time),
            ToMillis => timed(&arguments, |at| Value::Number(float(at))),
            Coalesce => {
                let mut given = arguments.into_iter();
                given.find(|value| !value.is_null()).unwrap_or(Value::Null)
            }
            IsPresent => {
                Value::Bool(arguments.first().is_some_and(|v| !v.is_null()))
            }
            IsEmpty => blank(&arguments, |text| text.is_empty()),
            IsBlank => blank(&arguments, |text| text.trim().is_empty()),
            IsValidIp | IsValidIpv4 | IsValidIpv6 | IsIpInSubnet
            | IsIpv4InSubnet | IsIpv6InSubnet => {
                Value::Bool(self.address(&arguments).unwrap_or(false))
            }
            Concat | LTrim | RTrim | Trim | StrLen | ToUpper | ToLower
            | Substr | Replace | StrContains => {
                self.textual(&arguments).unwrap_or(Value::Null)
            }
        }
    }

    fn address(self, arguments: &[Value<'_>]) -> Option<bool> {
        let text = arguments.first()?.text()?;
        let address: IpAddr = text.trim().parse().ok()?;
        let subnet = arguments.get(1).and_then(|v| v.text());
        let within = || in_subnet(address, subnet.as_deref()?);
        Some(match self {
            Function::IsValidIp => true,
            Function::IsValidIpv4 => address.is_ipv4(),
            Function::IsValidIpv6 => address.is_ipv6(),
            Function::IsIpv4InSubnet => address.is_ipv4() && within()?,
            Function::IsIpv6InSubnet => address.is_ipv6() && within()?,
            _ => within()?,
        })
    }

    fn textual<'a>(self, arguments: &[Value<'a>]) -> Option<Value<'a>> {
        let text = |at: usize| arguments.get(at).and_then(Value::text);
        let given = |text: String| Some(Value::Text(Cow::Owned(text)));
        match self {
            Function::Concat => {
                let mut all = String::new();
                for value in arguments {
                    all.push_str(&value.text().unwrap_or_default());
                    if all.len() > MAX_TEXT {
                        return None;
                    }
                }
                given(all)
            }
            Function::LTrim | Function::RTrim | Function::Trim => {
                let (whole, set) = (text(0)?, text(1));
                let drop = |c: char| match &set {
                    Some(set) => set.contains(c),
                    None => c.is_whitespace(),
                };
                given(
                    match self {
                        Function::LTrim => whole.trim_start_matches(drop),
                        Function::RTrim => whole.trim_end_matches(drop),
                        _ => whole.trim_matches(drop),
                    }
                    .to_owned(),
                )
            }
            Function::StrLen => {
                let length = text(0)?.chars().count();
                Some(Value::Number(float(i64::try_from(length).ok()?)))
            }
            Function::ToUpper => given(text(0)?.to_uppercase()),
            Function::ToLower => given(text(0)?.to_lowercase()),
            Function::Substr => {
                let count = |at: usize| {
                    let number = whole(arguments.get(at)?.number()?);
                    Some(usize::try_from(number).unwrap_or(0))
                };
                let length = match arguments.len() {
                    2 => usize::MAX,
                    _ => count(2)?,
                };
                let text = text(0)?;
                given(text.chars().skip(count(1)?).take(length).collect())
            }
            Function::Replace => replace(&text(0)?, &text(1)?, &text(2)?),
            Function::StrContains => {
                let found = text(0)?.contains(&*text(1)?);
                Some(Value::Number(f64::from(u8::from(found))))
            }
            _ => None,
        }
    }
}

fn replace(text: &str, from: &str, to: &str) -> Option<Value<'static>> {
    let times = if from.is_empty() { 0 } else { text.matches(from).count() };
    if text.len() + times.saturating_mul(to.len()) > MAX_TEXT {
        return None;
    }
    let made =
        if times == 0 { text.to_owned() } else { text.replace(from, to) };
    Some(Value::Text(Cow::Owned(made)))
}

fn numeric<'a>(arguments: &[Value<'_>], function: fn(f64) -> f64) -> Value<'a> {
    let number = arguments.first().and_then(Value::number).map(function);
    number.filter(|n| n.is_finite()).map_or(Value::Null, Value::Number)
}

fn timed<'a>(
    arguments: &[Value<'_>],
    function: impl FnOnce(i64) -> Value<'a>,
) -> Value<'a> {
    arguments.first().and_then(Value::millis).map_or(Value::Null, function)
}

fn blank<'a>(arguments: &[Value<'_>], is: fn(&str) -> bool) -> Value<'a> {
    let text = arguments.first().and_then(Value::text);
    Value::Bool(text.is_none_or(|text| is(&text)))
}

fn extreme(arguments: Vec<Value<'_>>, wanted: Ordering) -> Value<'_> {
    arguments
        .into_iter()
        .filter(|value| !value.is_null())
        .reduce(
            |best, next| {
                if next.order(&best) == wanted { next } else { best }
            },
        )
        .unwrap_or(Value::Null)
}

/// Whether an address lies in `10.0.0.0/8` or `2001:db8::/32`.
fn in_subnet(address: IpAddr, subnet: &str) -> Option<bool> {
    let (network, length) = subnet.trim().split_once('/')?;
    let length: u32 = length.parse().ok()?;
    match (address, network.parse().ok()?) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let bits = |ip: Ipv4Addr| u128::from(u32::from(ip)) << 96;
            same_prefix(bits(address), bits(network), length, 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let bits = |ip: Ipv6Addr| u128::from(ip);
            same_prefix(bits(address), bits(network), length, 128)
        }
        (IpAddr::V4(_) | IpAddr::V6(_), _) => Some(false),
    }
}

fn same_prefix(a: u128, b: u128, length: u32, most: u32) -> Option<bool> {
    if length > most {
        return None;
    }
    let ignored = 128 - length;
    let mask = u128::MAX.checked_shl(ignored).unwrap_or(0);
    Some(a & mask == b & mask)
}
