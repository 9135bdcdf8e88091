//! Addresses of a range, given to pods: each one is a file that bears its owner's name, so that no crash gives one twice.

use std::fs;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// A range of addresses in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The address of the network.
    pub network: Ipv4Addr,
    /// How many leading bits are the network's.
    pub prefix: u8,
}

impl Range {
    /// Reads `10.244.0.0/24`.
    pub fn parse(text: &str) -> Option<Range> {
        let (address, prefix) = text.trim().split_once('/')?;
        let (address, prefix) = (address.parse::<Ipv4Addr>().ok()?, prefix.parse::<u8>().ok()?);
        // Smaller ones have no room for a gateway and a pod.
        if prefix > 30 {
            return None;
        }
        let mask = if prefix == 0 { 0 } else { u32::MAX << (32 - prefix) };
        Some(Range { network: Ipv4Addr::from(u32::from(address) & mask), prefix })
    }

    /// The first address: the node's own in this range.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) + 1)
    }

    /// How many addresses pods can have: all but the network's, the gateway's and the broadcast address.
    pub fn size(self) -> u32 {
        (1_u32.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)).wrapping_sub(3)
    }

    fn nth(self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) + 2 + number)
    }

    fn place(self, address: Ipv4Addr) -> Option<u32> {
        u32::from(address).checked_sub(u32::from(self.network) + 2).filter(|place| *place < self.size())
    }
}

/// The addresses of one range, kept in a folder.
#[derive(Debug)]
pub struct Addresses {
    folder: PathBuf,
}

/// The file that says which address was given last.
const LAST: &str = "last";

impl Addresses {
    /// The addresses in a folder.
    pub fn new(folder: PathBuf) -> Addresses {
        Addresses { folder }
    }

    /// The address of an owner: the one it has, or the next free one after the last that was given.
    ///
    /// # Errors
    /// If none is free, or the disk refuses.
    pub fn take(&self, range: Range, owner: &str) -> io::Result<Ipv4Addr> {
        fs::create_dir_all(&self.folder)?;
        if let Some(held) = self.of(owner)?.into_iter().find(|held| range.place(*held).is_some()) {
            return Ok(held);
        }
        let last = fs::read_to_string(self.folder.join(LAST)).ok().and_then(|text| text.trim().parse().ok());
        let start = last.and_then(|last| range.place(last)).map_or(0, |place| place + 1);
        for step in 0..range.size() {
            let address = range.nth((start + step) % range.size());
            match fs::OpenOptions::new().write(true).create_new(true).open(self.file(address)) {
                Ok(mut file) => {
                    file.write_all(owner.as_bytes())?;
                    write_whole(&self.folder.join(LAST), &address.to_string())?;
                    return Ok(address);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other(format!("no IP addresses available in range set: {}/{}", range.network, range.prefix)))
    }

    /// Gives back what an owner has.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn give_back(&self, owner: &str) -> io::Result<()> {
        for address in self.of(owner)? {
            fs::remove_file(self.file(address))?;
        }
        Ok(())
    }

    /// The addresses of an owner.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn of(&self, owner: &str) -> io::Result<Vec<Ipv4Addr>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut held = Vec::new();
        for entry in entries {
            let entry = entry?;
            let address = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(address) = address
                && fs::read_to_string(entry.path())? == owner
            {
                held.push(address);
            }
        }
        Ok(held)
    }

    fn file(&self, address: Ipv4Addr) -> PathBuf {
        self.folder.join(address.to_string())
    }
}

fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let draft = path.with_extension("new");
    fs::write(&draft, text)?;
    fs::rename(draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_go_round_and_none_is_given_twice() {
        let folder = tempfile::tempdir().expect("a folder");
        let addresses = Addresses::new(folder.path().join("a"));
        let range = Range::parse("10.1.2.99/29").expect("a range");
        assert_eq!((range.gateway().to_string().as_str(), range.size()), ("10.1.2.97", 5));
        let take = |owner: &str| addresses.take(range, owner).map(|address| address.to_string());
        assert_eq!(take("a").expect("free"), "10.1.2.98");
        assert_eq!(take("b").expect("free"), "10.1.2.99");
        assert_eq!(take("a").expect("held"), "10.1.2.98");
        addresses.give_back("a").expect("give back");
        // A fresh pod does not get the address that somebody may still remember.
        for (owner, expected) in [("c", "10.1.2.100"), ("d", "10.1.2.101"), ("e", "10.1.2.102"), ("f", "10.1.2.98")] {
            assert_eq!(take(owner).expect("free"), expected);
        }
        assert_eq!(take("g").expect_err("full").to_string(), "no IP addresses available in range set: 10.1.2.96/29");
        let again = Addresses::new(folder.path().join("a"));
        assert_eq!(again.of("e").expect("read"), [Ipv4Addr::new(10, 1, 2, 102)]);
    }

    #[test]
    fn ranges_without_room_are_refused() {
        for bad in ["10.0.0.0/31", "10.0.0.0", "fd00::/64", "x/24", "10.0.0.0/33"] {
            assert_eq!(Range::parse(bad), None, "{bad}");
        }
    }
}
