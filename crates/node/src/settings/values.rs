//! The types of single settings, and their text forms.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A duration, written as a whole number and `ms`, `s` or `m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Period(pub Duration);

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            _ => return Err(format!("{text:?} is not a duration: write it like 300ms, 7s or 2m")),
        };
        let number: u64 = number
            .parse()
            .map_err(|_| format!("{text:?} is not a duration: start with a number, as in 7s"))?;
        let millis = number.checked_mul(unit).filter(|millis| *millis <= 86_400_000);
        let millis = millis.ok_or_else(|| format!("{text:?} is more than the maximum of a day"))?;
        Ok(Self(Duration::from_millis(millis)))
    }
}

impl TryFrom<String> for Period {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// An amount of memory, written as a whole number and `KiB`, `MiB` or `GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Size(usize);

impl Size {
    /// Returns a size of `number` MiB.
    #[must_use]
    pub const fn mib(number: usize) -> Self {
        Self(number << 20)
    }

    /// Returns the number of bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.0
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit: usize = match unit {
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(format!("{text:?} is not a size: write it like 64MiB or 2GiB")),
        };
        let number: usize = number
            .parse()
            .map_err(|_| format!("{text:?} is not a size: start with a number, as in 64MiB"))?;
        let bytes = number.checked_mul(unit).filter(|bytes| *bytes <= 1 << 40);
        bytes.map(Self).ok_or_else(|| format!("{text:?} is more than the maximum of 1024GiB"))
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// One member of the cluster, with its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MemberAddress {
    /// The node's id, from 1.
    pub id: u64,
    /// Address for peers, over QUIC: `host:port`.
    pub peer: String,
    /// URL for clients: `http://host:port`.
    pub client: String,
}

impl FromStr for MemberAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || format!("{text:?} is not a member: write ID=PEER_HOST:PORT,CLIENT_URL");
        let (id, places) = text.split_once('=').ok_or_else(wanted)?;
        let (peer, client) = places.split_once(',').ok_or_else(wanted)?;
        let id = id.trim().parse().map_err(|_| wanted())?;
        Ok(Self { id, peer: peer.trim().to_owned(), client: client.trim().to_owned() })
    }
}

impl fmt::Display for MemberAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={},{}", self.id, self.peer, self.client)
    }
}

/// Storage of log and state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// On disk, in RocksDB.
    Rocksdb,
    /// In memory: lost when the process ends. A node that has lost its votes is not safe to rejoin, so
    /// after its restart its peers drop its messages until they are restarted as well.
    Memory,
}

impl Default for StoreKind {
    /// Returns RocksDB if this program was built with it, else memory.
    fn default() -> Self {
        if cfg!(feature = "rocksdb") { Self::Rocksdb } else { Self::Memory }
    }
}

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rocksdb => "rocksdb",
            Self::Memory => "memory",
        })
    }
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Several lines per event, coloured on a terminal.
    #[default]
    Pretty,
    /// One line per event.
    Compact,
    /// One JSON object per event.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed_with_their_unit() {
        let parse = |text: &str| text.parse::<Period>().map(|period| period.0.as_millis());
        assert_eq!(parse("0ms"), Ok(0));
        assert_eq!(parse("300ms"), Ok(300));
        assert_eq!(parse("7s"), Ok(7_000));
        assert_eq!(parse("2m"), Ok(120_000));
        for text in ["", "5", "ms", "-1s", "1.5s", "1h", "1 s", "25000m", "99999999999999999999s"] {
            assert!(parse(text).unwrap_err().contains(&format!("{text:?}")), "{text}");
        }
    }

    #[test]
    fn sizes_are_parsed_with_their_unit() {
        let parse = |text: &str| text.parse::<Size>().map(Size::bytes);
        assert_eq!(parse("512KiB"), Ok(512 << 10));
        assert_eq!(parse("64MiB"), Ok(64 << 20));
        assert_eq!(parse("2GiB"), Ok(2 << 30));
        assert_eq!("64MiB".parse(), Ok(Size::mib(64)));
        for text in ["", "5", "MiB", "-1MiB", "1.5GiB", "1MB", "1 MiB", "1025GiB"] {
            assert!(parse(text).unwrap_err().contains(&format!("{text:?}")), "{text}");
        }
    }

    #[test]
    fn member_survives_a_round_trip_through_text() {
        let member: MemberAddress = "2=host:2380,http://host:2379".parse().unwrap();
        assert_eq!(member.id, 2);
        assert_eq!(member.peer, "host:2380");
        assert_eq!(member.client, "http://host:2379");
        assert_eq!(member.to_string().parse(), Ok(member));
        for text in ["", "2", "2=host:1", "x=host:1,http://host:2"] {
            assert!(text.parse::<MemberAddress>().unwrap_err().contains("write ID="), "{text}");
        }
    }
}
