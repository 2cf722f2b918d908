//! The configuration file of `offshoot serve`: TOML, where everything may be left out. What is typed on the command line counts
//! more.

use crate::arguments::{IoEngine, octal};
use crate::failure::{Code, Failure};
use crate::speed::NamedLimits;
use crate::spin::Spin;
use serde::{Deserialize, Deserializer};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where it is looked for when nothing else is said.
pub(crate) const USUAL: &str = "/etc/offshoot/offshoot.toml";

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) api: ApiConfig,
    pub(crate) access: AccessConfig,
    pub(crate) tls: TlsConfig,
    #[serde(rename = "pool")]
    pub(crate) pools: Vec<PoolConfig>,
}

/// The socket that commands and programs are answered on.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ApiConfig {
    pub(crate) socket: Option<PathBuf>,
    #[serde(deserialize_with = "mode")]
    pub(crate) mode: Option<u32>,
}

/// Users, and groups with an '@' before them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AccessConfig {
    pub(crate) admin: Vec<String>,
    pub(crate) operator: Vec<String>,
    pub(crate) read_only: Vec<String>,
}

/// Of all NBD sockets.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TlsConfig {
    pub(crate) directory: Option<PathBuf>,
    pub(crate) required: bool,
    /// As `--tls-allow` takes them.
    pub(crate) allow: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PoolConfig {
    /// A path, or the name of a pool that is known here.
    pub(crate) path: PathBuf,
    #[serde(default)]
    pub(crate) io: Option<IoEngine>,
    /// As `--spin` takes it.
    #[serde(default)]
    pub(crate) spin: Option<Spin>,
    #[serde(default)]
    pub(crate) nbd: NbdConfig,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NbdConfig {
    pub(crate) socket: Option<PathBuf>,
    #[serde(deserialize_with = "mode")]
    pub(crate) mode: Option<u32>,
    pub(crate) tcp: Option<SocketAddr>,
    pub(crate) default_export: Option<String>,
    /// As `--limit` takes them.
    pub(crate) limit: Vec<NamedLimits>,
}

impl Config {
    /// The file that is named, or the usual one if it is there.
    pub(crate) fn read(named: Option<&Path>) -> Result<Self, Failure> {
        let path = named.unwrap_or(Path::new(USUAL));
        let refused = |code, why: String| {
            Failure::new(code, "the pools are not served", why, "the example in the README of Offshoot")
        };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => {
                return Ok(Self::default());
            }
            Err(error) => {
                let code =
                    if error.kind() == io::ErrorKind::NotFound { Code::NotFound } else { Code::Failed };
                return Err(refused(code, format!("{}: {error}", path.display())));
            }
        };
        toml::from_str(&text).map_err(|error| {
            let place = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let place = place.map_or(String::new(), |line| format!(" line {line}"));
            refused(Code::Usage, format!("{}{place}: {}", path.display(), error.message()))
        })
    }
}

/// Permission bits in octal, as text: a number would be read as decimal.
fn mode<'de, D: Deserializer<'de>>(source: D) -> Result<Option<u32>, D::Error> {
    let text = String::deserialize(source)?;
    octal(&text).map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::Config;
    use crate::failure::Failure;
    use std::time::Duration;

    fn read(text: &str) -> Result<Config, Failure> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        Config::read(Some(file.path()))
    }

    #[test]
    fn everything_can_be_said_and_nothing_must_be() {
        let all = r#"
            [api]
            socket = "/run/offshoot/api.sock"
            mode = "660"
            [access]
            operator = ["@kvm"]
            [tls]
            directory = "/etc/offshoot/tls"
            required = true
            [[pool]]
            path = "/srv/p0.pool"
            io = "uring"
            spin = "400us"
            [pool.nbd]
            tcp = "127.0.0.1:10809"
            mode = "600"
            limit = ["desk-1=iops:500,bps:20M"]
            [[pool]]
            path = "p1"
        "#;
        let config = read(all).expect("a configuration");
        assert_eq!(config.api.mode, Some(0o660));
        assert_eq!(config.pools.len(), 2);
        assert_eq!(config.pools[0].nbd.mode, Some(0o600));
        assert_eq!(config.pools[0].spin.map(Duration::from), Some(Duration::from_micros(400)));
        assert_eq!(config.pools[1].spin, None);
        assert!(config.tls.required && config.access.admin.is_empty());
        assert!(read("").expect("nothing").pools.is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, why) in [
            ("[api]\nsockets = 1\n", "line 2: unknown field `sockets`"),
            ("[api]\nmode = \"999\"\n", "octal"),
            ("[[pool]]\nio = \"auto\"\n", "missing field `path`"),
            ("[[pool]]\npath = \"p\"\nspin = \"1s\"\n", "line 3: \"1s\" is no time"),
            ("[[pool]]\npath = \"p\"\n[pool.nbd]\nlimit = [\"x\"]\n", "lacks the '='"),
            ("[", "line 1"),
        ] {
            let failure = read(text).expect_err(text);
            assert!(failure.why.contains(why), "{text:?}: {}", failure.why);
        }
        Config::read(Some(std::path::Path::new("/nonexistent/x.toml"))).expect_err("named and missing");
    }
}
