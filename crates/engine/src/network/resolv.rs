//! What containers use to resolve names: the host's own resolvers.
//!
//! No resolver of ours stands between, so that names resolve while Minato is
//! down. A stub on the host's loopback cannot be reached from a container;
//! where it is systemd-resolved's, its upstream servers take its place.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use super::ResolvConfError;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const SYSTEMD_RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
/// As many name servers as the C library looks at (resolv.conf(5), MAXNS).
const NAME_SERVERS_MAX: usize = 3;

/// Name servers, search domains and options for a container's resolv.conf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Addresses of name servers, best first.
    pub nameservers: Vec<String>,
    /// Domains tried for short names.
    pub search: Vec<String>,
    /// Options as in resolv.conf(5).
    pub options: Vec<String>,
}

impl ResolvConf {
    /// The text of the file.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for server in &self.nameservers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        for (keyword, words) in
            [("search", &self.search), ("options", &self.options)]
        {
            if !words.is_empty() {
                text.push_str(&format!("{keyword} {}\n", words.join(" ")));
            }
        }
        text
    }

    fn parse(text: &str) -> ResolvConf {
        let mut found = ResolvConf::default();
        for line in text.lines() {
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => found.nameservers.extend(words.next()),
                // The last of these two wins, as in the C library.
                Some("search") => found.search = words.collect(),
                Some("domain") => found.search = words.take(1).collect(),
                Some("options") => found.options.extend(words),
                _ => {}
            }
        }
        found
    }

    fn reachable(mut self) -> ResolvConf {
        self.nameservers.retain(|server| is_reachable(server));
        self.nameservers.truncate(NAME_SERVERS_MAX);
        self
    }
}

/// All containers have IPv4, few have IPv6; loopback is their own.
fn is_reachable(server: &str) -> bool {
    match server.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => {
            !address.is_loopback() && !address.is_unspecified()
        }
        Ok(IpAddr::V6(_)) | Err(_) => false,
    }
}

/// What containers should use to resolve names; read anew for each container,
/// since a laptop's name servers change with its network.
pub fn resolv_conf() -> Result<ResolvConf, ResolvConfError> {
    resolv_conf_of(Path::new(RESOLV_CONF), Path::new(SYSTEMD_RESOLVED))
}

pub(super) fn resolv_conf_of(
    path: &Path,
    upstream: &Path,
) -> Result<ResolvConf, ResolvConfError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        // The C library then asks loopback; so there is none to reach.
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => {
            return Err(ResolvConfError::Read { path: path.into(), source });
        }
    };
    let host = ResolvConf::parse(&text);
    let servers = host.nameservers.clone();
    let usable = host.reachable();
    if !usable.nameservers.is_empty() {
        return Ok(usable);
    }
    // The stub's file has search domains and options worth keeping.
    let behind = fs::read_to_string(upstream).unwrap_or_default();
    let behind = ResolvConf::parse(&behind).reachable();
    if behind.nameservers.is_empty() {
        let path = path.into();
        return Err(ResolvConfError::NoneReachable { path, servers });
    }
    Ok(ResolvConf {
        nameservers: behind.nameservers,
        search: if usable.search.is_empty() {
            behind.search
        } else {
            usable.search
        },
        options: usable.options,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(host: &str, upstream: &str) -> Result<ResolvConf, ResolvConfError> {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&a, host).unwrap();
        if !upstream.is_empty() {
            fs::write(&b, upstream).unwrap();
        }
        resolv_conf_of(&a, &b)
    }

    #[test]
    fn the_hosts_servers_are_used() {
        let text = "# made by hand\n; or not\nnameserver 10.0.0.2\n\
            nameserver 127.0.0.53\nnameserver fe80::1%eth0\n\
            domain old.example\nsearch a.example b.example\n\
            options ndots:2 timeout:1\n";
        let found = read(text, "").unwrap();
        assert_eq!(
            found.to_text(),
            "nameserver 10.0.0.2\nsearch a.example b.example\n\
             options ndots:2 timeout:1\n"
        );
    }

    #[test]
    fn a_stub_on_loopback_is_seen_through() {
        let stub = "nameserver 127.0.0.53\noptions edns0\nsearch lan\n";
        let found = read(stub, "nameserver 192.0.2.7\nsearch other\n").unwrap();
        assert_eq!(
            found.to_text(),
            "nameserver 192.0.2.7\nsearch lan\noptions edns0\n"
        );
    }

    #[test]
    fn no_reachable_server_is_a_clear_error() {
        let error = read("nameserver 127.0.0.1\nnameserver ::1\n", "");
        let text = error.unwrap_err().to_string();
        assert!(text.contains("127.0.0.1, ::1"), "{text}");
        let missing = Path::new("/nonexistent");
        assert!(resolv_conf_of(missing, missing).is_err());
    }

    #[test]
    fn three_servers_are_enough() {
        let text: String =
            (1..9).map(|n| format!("nameserver 10.0.0.{n}\n")).collect();
        assert_eq!(read(&text, "").unwrap().nameservers.len(), 3);
    }
}
