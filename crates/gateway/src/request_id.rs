//! Request ids, as AWS writes them.

/// A UUID with its dashes.
pub(crate) fn format(uuid: u128) -> String {
    let hex = format!("{uuid:032x}");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_request_id_is_a_uuid() {
        let id = super::format(0x8f3c_0000_0000_4000_8000_0000_0000_0001);
        assert_eq!(id, "8f3c0000-0000-4000-8000-000000000001");
    }
}
