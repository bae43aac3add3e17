//! Where one Minato keeps its things: the data directory, and a directory
//! below `/run` that a reboot empties.

use std::collections::BTreeMap;
use std::env::VarError;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use minato_control::seal::{SEAL_KEY_BYTES, SealKey};
use minato_control::{Caller, Credential};
use minato_core::env::Ids;
use minato_engine::image::{ImageStoreConfig, RegistryConfig};
use serde::{Deserialize, Serialize};

/// Where sockets and mounts of all Minatos live.
const RUN_ROOT: &str = "/run/minato";

/// Holds the key that seals secrets, instead of a file.
const SEAL_KEY_VARIABLE: &str = "MINATO_SEAL_KEY";

/// Makes a directory, and those above it, for its owner alone.
fn make_private(dir: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("could not make {}", dir.display()))
}

/// One data directory and what belongs to it.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    dir: PathBuf,
    name: String,
}

impl Home {
    /// The home at `dir`, which need not exist yet.
    pub(crate) fn at(dir: &Path) -> Result<Home> {
        let dir = std::path::absolute(dir)
            .with_context(|| format!("the path {}", dir.display()))?;
        // A link and its target are one home.
        let dir = fs::canonicalize(&dir).unwrap_or(dir);
        let name = short_name(&dir.to_string_lossy());
        Ok(Home { dir, name })
    }

    /// Makes the data directory, and those in it that nobody else may enter:
    /// they hold what tasks say, and files that are open to all users within a
    /// container, such as programs that give whoever starts them root's rights.
    /// A data directory that was there may be open, and stays so.
    pub(crate) fn create(&self) -> Result<()> {
        make_private(&self.dir)?;
        for dir in ["engine", "agent", "logs"] {
            let dir = self.dir.join(dir);
            make_private(&dir)?;
            fs::set_permissions(&dir, Permissions::from_mode(0o700))
                .with_context(|| {
                    format!("could not close {}", dir.display())
                })?;
        }
        Ok(())
    }

    /// Makes the directory of sockets and mounts, which `minato down` removes.
    pub(crate) fn create_run_dir(&self) -> Result<()> {
        make_private(&self.run_dir())
    }

    /// The data directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Six letters and digits that stand for the data directory: names of
    /// network interfaces and control groups have little room.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Sockets and mounts; empty after a reboot.
    pub(crate) fn run_dir(&self) -> PathBuf {
        Path::new(RUN_ROOT).join(&self.name)
    }

    /// The journal of the control plane.
    pub(crate) fn journal(&self) -> PathBuf {
        self.dir.join("journal")
    }

    /// Log events.
    pub(crate) fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// The agent's files.
    pub(crate) fn agent(&self) -> PathBuf {
        self.dir.join("agent")
    }

    /// The image store.
    pub(crate) fn images(&self) -> PathBuf {
        self.dir.join("engine/images")
    }

    /// Written layers and output of containers.
    pub(crate) fn containers(&self) -> PathBuf {
        self.dir.join("engine/containers")
    }

    /// Keeps how registries are reached, for `minato image pull`.
    pub(crate) fn set_registry(&self, registry: &Registry) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(registry)?;
        write_private(&self.dir.join("registry.json"), &bytes)
    }

    /// How registries are reached: as the last `minato up` was told.
    pub(crate) fn registry(&self) -> Result<Registry> {
        let path = self.dir.join("registry.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                format!("{} is not a registry file", path.display())
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Registry::default())
            }
            Err(error) => Err(error)
                .with_context(|| format!("could not read {}", path.display())),
        }
    }

    /// The key that seals secrets: the operator's, from the environment or a
    /// file, or one that was made here. Another key than last time is refused:
    /// nothing that is sealed would open.
    pub(crate) fn seal_key(&self, file: Option<&Path>) -> Result<SealKey> {
        let key = match (std::env::var(SEAL_KEY_VARIABLE), file) {
            (Ok(_), Some(_)) => bail!(
                "the key that seals is given twice: in {SEAL_KEY_VARIABLE} \
                 and as --seal-key-file"
            ),
            (Ok(text), None) => parse_seal_key(&text)
                .with_context(|| format!("the key in {SEAL_KEY_VARIABLE}"))?,
            (Err(VarError::NotPresent), file) => self.seal_key_in(file)?,
            (Err(error @ VarError::NotUnicode(_)), _) => {
                return Err(error).with_context(|| {
                    format!("the key in {SEAL_KEY_VARIABLE}")
                });
            }
        };
        let mark = self.dir.join("seal.id");
        match fs::read_to_string(&mark) {
            Ok(known) if known.trim() == key.id() => Ok(key),
            Ok(known) => bail!(
                "secrets in {} are sealed with key {}, and this is key {}",
                self.dir.display(),
                known.trim(),
                key.id()
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                write_private(&mark, key.id().as_bytes())?;
                Ok(key)
            }
            Err(error) => Err(error)
                .with_context(|| format!("could not read {}", mark.display())),
        }
    }

    fn seal_key_in(&self, file: Option<&Path>) -> Result<SealKey> {
        let own = self.dir.join("seal.key");
        let path = file.unwrap_or(&own);
        match fs::read_to_string(path) {
            Ok(text) => parse_seal_key(&text)
                .with_context(|| format!("the key in {}", path.display())),
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && file.is_none() =>
            {
                let key = SealKey::generate()?;
                let digits = key.bytes().iter();
                let text: String =
                    digits.map(|byte| format!("{byte:02x}")).collect();
                write_private(path, text.as_bytes())?;
                Ok(key)
            }
            Err(error) => Err(error)
                .with_context(|| format!("could not read {}", path.display())),
        }
    }

    fn running_file(&self) -> PathBuf {
        self.run_dir().join("running.json")
    }

    /// Says that this process serves the home.
    pub(crate) fn set_running(&self, running: &Running) -> Result<()> {
        write_private(&self.running_file(), &serde_json::to_vec(running)?)
    }

    /// Says that nobody serves the home any more.
    pub(crate) fn clear_running(&self) {
        // Gone already is as good.
        let _ = fs::remove_file(self.running_file());
    }

    /// The process that serves the home, if one does.
    pub(crate) fn running(&self) -> Result<Running> {
        let bytes = fs::read(self.running_file()).ok();
        let running = bytes.and_then(|b| serde_json::from_slice(&b).ok());
        let Some(running) = running.filter(Running::is_alive) else {
            bail!(
                "no Minato is running with the data directory {}; start one \
                 with `minato up --data-dir {}`",
                self.dir.display(),
                self.dir.display()
            );
        };
        Ok(running)
    }

    /// The keys of the home, made at the first start.
    pub(crate) fn keys(&self, ids: &dyn Ids) -> Result<Keys> {
        let path = self.dir.join("credentials.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                format!("{} is not a credentials file", path.display())
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let keys = Keys::draw(ids);
                write_private(&path, &serde_json::to_vec_pretty(&keys)?)?;
                Ok(keys)
            }
            Err(error) => Err(error)
                .with_context(|| format!("could not read {}", path.display())),
        }
    }

    /// The keys of a home that has been started before.
    pub(crate) fn existing_keys(&self) -> Result<Keys> {
        let path = self.dir.join("credentials.json");
        let bytes = fs::read(&path)
            .with_context(|| format!("could not read {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| {
            format!("{} is not a credentials file", path.display())
        })
    }
}

/// How image registries are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registry {
    /// Mirrors by registry.
    pub(crate) mirrors: BTreeMap<String, Vec<String>>,
    /// Hosts that may be asked without TLS.
    pub(crate) insecure: Vec<String>,
}

impl Registry {
    /// As the command line says it.
    pub(crate) fn of(
        mirrors: &[(String, String)],
        insecure: &[String],
    ) -> Registry {
        let mut registry =
            Registry { insecure: insecure.to_vec(), ..Registry::default() };
        for (name, url) in mirrors {
            let urls = registry.mirrors.entry(name.clone()).or_default();
            urls.push(url.clone());
        }
        registry
    }

    /// As the engine takes it.
    pub(crate) fn config(&self) -> ImageStoreConfig {
        ImageStoreConfig {
            registries: RegistryConfig {
                mirrors: self.mirrors.clone(),
                insecure: self.insecure.clone(),
                ..RegistryConfig::default()
            },
            ..ImageStoreConfig::default()
        }
    }
}

/// A running Minato, as other processes find it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Running {
    /// Its process.
    pub(crate) pid: i32,
    /// When the process started, in clock ticks since boot: pids come again.
    pub(crate) started: u64,
    /// Where its gateway listens.
    pub(crate) listen: String,
    /// Its default account.
    pub(crate) account: String,
    /// Its default region.
    pub(crate) region: String,
}

impl Running {
    /// This process.
    pub(crate) fn here(listen: String, account: &str, region: &str) -> Running {
        let pid = std::process::id();
        let pid = i32::try_from(pid).unwrap_or(0);
        Running {
            pid,
            started: start_time(pid).unwrap_or(0),
            listen,
            account: account.to_owned(),
            region: region.to_owned(),
        }
    }

    /// The URL for clients.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// Whether the process is still the one that wrote this.
    pub(crate) fn is_alive(&self) -> bool {
        start_time(self.pid) == Some(self.started)
    }
}

/// When a process that runs started, in clock ticks since boot (proc(5),
/// `stat`).
fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command may hold blanks and brackets; what follows the last one
    // does not. Field 22 is the twentieth after it.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    // A dead one whose parent has not looked yet runs no more.
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// A pair of keys.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct KeyPair {
    /// `AKIA` and sixteen letters and digits.
    pub(crate) access_key_id: String,
    /// Forty letters and digits.
    pub(crate) secret_access_key: String,
}

/// Long-term credentials of a home: the root's and the agent's.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Keys {
    /// For people and their tools.
    pub(crate) root: KeyPair,
    /// For the agent of this host.
    pub(crate) agent: KeyPair,
}

impl Keys {
    fn draw(ids: &dyn Ids) -> Keys {
        Keys { root: KeyPair::draw(ids), agent: KeyPair::draw(ids) }
    }

    /// As the control plane knows them.
    pub(crate) fn credentials(&self, account: &str) -> Vec<Credential> {
        let root = Caller {
            account: account.to_owned(),
            arn: format!("arn:aws:iam::{account}:root"),
            user_id: account.to_owned(),
            access_key_id: self.root.access_key_id.clone(),
        };
        let agent = Caller {
            account: account.to_owned(),
            arn: format!(
                "arn:aws:sts::{account}:assumed-role/ecsInstanceRole/host"
            ),
            user_id: "AROAMINATOAGENT00000:host".to_owned(),
            access_key_id: self.agent.access_key_id.clone(),
        };
        let of = |pair: &KeyPair, caller| Credential {
            secret: pair.secret_access_key.clone(),
            session_token: None,
            expires_at: None,
            caller,
        };
        vec![of(&self.root, root), of(&self.agent, agent)]
    }
}

impl KeyPair {
    fn draw(ids: &dyn Ids) -> KeyPair {
        KeyPair {
            access_key_id: format!("AKIA{}", letters(ids, 16, UPPER)),
            secret_access_key: letters(ids, 40, ANY),
        }
    }
}

const UPPER: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const ANY: &[u8] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// `count` letters of an alphabet whose size is a power of two.
fn letters(ids: &dyn Ids, count: usize, alphabet: &[u8]) -> String {
    let mut text = String::new();
    while text.len() < count {
        let bytes = ids.uuid().to_be_bytes();
        // Bytes 6 and 8 hold version and variant of the UUID: not random.
        for index in (0..16).filter(|index| *index != 6 && *index != 8) {
            let place = usize::from(bytes[index]) % alphabet.len();
            text.push(char::from(alphabet[place]));
        }
    }
    text.truncate(count);
    text
}

fn parse_seal_key(text: &str) -> Result<SealKey> {
    let text = text.trim();
    let mut bytes = [0; SEAL_KEY_BYTES];
    if text.len() != 2 * bytes.len() || !text.is_ascii() {
        bail!("a key has 64 hexadecimal digits");
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16)
            .ok()
            .context("a key has 64 hexadecimal digits")?;
    }
    Ok(SealKey::new(bytes))
}

/// Six letters and digits, a letter first, that depend on `text` alone.
fn short_name(text: &str) -> String {
    // FNV-1a; spreads well, and nothing hangs on its strength.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    const DIGITS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    // Interfaces' names begin with a letter.
    let digits = (0..5_u32).map(|place| {
        let digit = hash / 36_u64.pow(place) % 36;
        char::from(DIGITS[usize::try_from(digit).unwrap_or(0)])
    });
    std::iter::once('m').chain(digits).collect()
}

/// Writes a file that only its owner reads, all of it or nothing.
fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let fresh = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        if let Some(parent) = path.parent() {
            File::open(parent)?.sync_all()?;
        }
        Ok(())
    };
    write().with_context(|| format!("could not write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::RandomIds;

    #[test]
    fn a_seal_key_is_made_once_and_another_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path()).unwrap();
        let made = home.seal_key(None).unwrap();
        assert_eq!(home.seal_key(None).unwrap().bytes(), made.bytes());
        let path = dir.path().join("seal.key");
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = dir.path().join("other.key");
        fs::write(&other, "0f".repeat(32) + "\n").unwrap();
        let refused = home.seal_key(Some(&other)).unwrap_err().to_string();
        assert!(refused.contains("are sealed with key"), "{refused}");
        let fresh = tempfile::tempdir().unwrap();
        let home = Home::at(fresh.path()).unwrap();
        let given = home.seal_key(Some(&other)).unwrap();
        assert_eq!(given.bytes(), &[0x0f; SEAL_KEY_BYTES]);
        for bad in ["", "0f", &"0g".repeat(32), &"é".repeat(32)] {
            fs::write(&other, bad).unwrap();
            assert!(home.seal_key(Some(&other)).is_err(), "{bad}");
        }
        let missing = dir.path().join("nothing");
        assert!(home.seal_key(Some(&missing)).is_err());
    }

    #[test]
    fn keys_are_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path()).unwrap();
        let keys = home.keys(&RandomIds).unwrap();
        assert!(keys.root.access_key_id.starts_with("AKIA"));
        assert_eq!(keys.root.access_key_id.len(), 20);
        assert_eq!(keys.root.secret_access_key.len(), 40);
        let again = home.keys(&RandomIds).unwrap();
        assert_eq!(again.root.access_key_id, keys.root.access_key_id);
        let path = dir.path().join("credentials.json");
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_broken_credentials_file_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("credentials.json"), "{").unwrap();
        let home = Home::at(dir.path()).unwrap();
        assert!(home.keys(&RandomIds).is_err());
    }

    #[test]
    fn names_are_short_and_tell_homes_apart() {
        let (one, other) = (short_name("/var/lib/minato"), short_name("/tmp"));
        assert_ne!(one, other);
        assert_eq!(one.len(), 6);
        assert_eq!(one, short_name("/var/lib/minato"));
    }

    #[test]
    fn a_process_is_known_by_its_start_too() {
        let here = Running::here("127.0.0.1:1".into(), "0", "r");
        assert!(here.is_alive());
        let other = Running { started: here.started + 1, ..here };
        assert!(!other.is_alive());
    }

    #[test]
    fn a_dead_process_that_nobody_waited_for_does_not_run() {
        let mut child =
            std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(start_time(pid).is_some());
        child.kill().unwrap();
        while start_time(pid).is_some() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }
}
