//! What the kernel does with rules, as far as tests of compilers need it.

use super::rule::{BASE_NETWORK, BASE_TRANSPORT, Expression, META_L4PROTO};
use super::{NF_ACCEPT, NF_DROP, Rule};

/// A packet as rules see it.
#[derive(Clone, Debug)]
pub(in crate::network) struct Seen {
    /// The header of IPv4 or IPv6.
    pub(in crate::network) network: Vec<u8>,
    /// What follows it.
    pub(in crate::network) transport: Vec<u8>,
}

/// What a rule says of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::network) enum Outcome {
    Accept,
    Drop,
    Jump(String),
    /// The rule does not match.
    Next,
}

impl Rule {
    /// Runs the rule; `has` tells whether a set has a key.
    pub(in crate::network) fn run(
        &self,
        seen: &Seen,
        has: &dyn Fn(&str, &[u8]) -> bool,
    ) -> Outcome {
        let mut registers = [0; 80];
        for expression in &self.0 {
            match step(expression, seen, has, &mut registers) {
                Some(Outcome::Next) | None => return Outcome::Next,
                Some(Outcome::Jump(chain)) if chain.is_empty() => {}
                Some(outcome) => return outcome,
            }
        }
        Outcome::Next
    }
}

/// One expression. A jump to no chain stands for going on.
fn step(
    expression: &Expression,
    seen: &Seen,
    has: &dyn Fn(&str, &[u8]) -> bool,
    registers: &mut [u8; 80],
) -> Option<Outcome> {
    let go_on = Outcome::Jump(String::new());
    let go_on_if = |is_so| if is_so { go_on.clone() } else { Outcome::Next };
    let first = &registers[..];
    Some(match expression {
        Expression::Meta { key: META_L4PROTO, into } => {
            let at = offset(*into);
            registers[at..at + 4].fill(0);
            let protocol = if is_ipv6(seen) { 6 } else { 9 };
            registers[at] = *seen.network.get(protocol)?;
            go_on
        }
        Expression::Payload { base, offset: start, length, into } => {
            let header = match *base {
                BASE_NETWORK => &seen.network,
                BASE_TRANSPORT => &seen.transport,
                other => panic!("no header {other}"),
            };
            let start = usize::try_from(*start).unwrap();
            let length = usize::try_from(*length).unwrap();
            let value = header.get(start..start + length)?;
            let at = offset(*into);
            registers[at..at + length].copy_from_slice(value);
            go_on
        }
        Expression::Mask(mask) => {
            for (byte, mask) in registers.iter_mut().zip(mask) {
                *byte &= mask;
            }
            go_on
        }
        Expression::Compare { equal, value } => {
            go_on_if(first.starts_with(value) == *equal)
        }
        Expression::Order { operator, value } => {
            let ours = &first[..value.len()];
            go_on_if(match operator {
                3 => ours <= value.as_slice(),
                5 => ours >= value.as_slice(),
                other => panic!("no operator {other}"),
            })
        }
        Expression::InSet { set, from, equal } => {
            let at = offset(*from);
            let length = if is_ipv6(seen) { 16 } else { 4 };
            go_on_if(has(set, &first[at..at + length]) == *equal)
        }
        Expression::Jump { chain } => Outcome::Jump(chain.clone()),
        Expression::Verdict(NF_ACCEPT) => Outcome::Accept,
        Expression::Verdict(NF_DROP) => Outcome::Drop,
        other @ (Expression::Meta { .. }
        | Expression::Ct { .. }
        | Expression::AddressType { .. }
        | Expression::LookUp { .. }
        | Expression::DestinationNat
        | Expression::Masquerade
        | Expression::Value(_)
        | Expression::Redirect
        | Expression::Verdicts { .. }
        | Expression::Verdict(_)) => panic!("not of a group: {other:?}"),
    })
}

fn is_ipv6(seen: &Seen) -> bool {
    seen.network.first().is_some_and(|byte| byte >> 4 == 6)
}

/// Registers of sixteen bytes are 1 to 4, those of four 8 to 23.
fn offset(register: u32) -> usize {
    let offset = match register {
        1..=4 => (register - 1) * 16,
        _ => (register - 8) * 4,
    };
    usize::try_from(offset).unwrap()
}
