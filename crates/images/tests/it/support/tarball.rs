//! Writes tars entry by entry: proper ones, and ones that no honest program writes.

/// A tar that grows.
#[derive(Clone, Default)]
pub(crate) struct Tar(Vec<u8>);

/// The fields of one header; what a test does not care for is as `Default` says.
#[derive(Clone)]
pub(crate) struct Header<'a> {
    pub(crate) path: &'a str,
    pub(crate) type_flag: u8,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: u64,
    pub(crate) link: &'a str,
    pub(crate) device: (u32, u32),
}

impl Default for Header<'_> {
    fn default() -> Self {
        Header {
            path: "",
            type_flag: b'0',
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 1_600_000_000,
            link: "",
            device: (0, 0),
        }
    }
}

impl Tar {
    pub(crate) fn new() -> Tar {
        Tar::default()
    }

    pub(crate) fn file(self, path: &str, content: &[u8]) -> Tar {
        self.entry(&Header { path, ..Header::default() }, content)
    }

    pub(crate) fn program(self, path: &str, content: &[u8]) -> Tar {
        self.entry(&Header { path, mode: 0o755, ..Header::default() }, content)
    }

    pub(crate) fn folder(self, path: &str) -> Tar {
        self.entry(&Header { path, type_flag: b'5', mode: 0o755, ..Header::default() }, b"")
    }

    pub(crate) fn symlink(self, path: &str, link: &str) -> Tar {
        self.entry(&Header { path, type_flag: b'2', mode: 0o777, link, ..Header::default() }, b"")
    }

    pub(crate) fn hardlink(self, path: &str, link: &str) -> Tar {
        self.entry(&Header { path, type_flag: b'1', link, ..Header::default() }, b"")
    }

    /// One entry as its header says; names of any length are written as GNU does.
    pub(crate) fn entry(mut self, header: &Header<'_>, content: &[u8]) -> Tar {
        for (type_flag, name) in [(b'L', header.path), (b'K', header.link)] {
            if name.len() > 100 {
                let long = Header { path: "././@LongLink", type_flag, ..Header::default() };
                self.block(&long, name.len() as u64);
                self.data(name.as_bytes());
            }
        }
        self.block(header, content.len() as u64);
        self.data(content);
        self
    }

    /// An entry with PAX records before it.
    pub(crate) fn pax(mut self, records: &[(&str, &[u8])], header: &Header<'_>, content: &[u8]) -> Tar {
        let mut text = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            text.extend_from_slice(format!("{length} {key}=").as_bytes());
            text.extend_from_slice(value);
            text.push(b'\n');
        }
        self.block(&Header { path: "PaxHeaders/x", type_flag: b'x', ..Header::default() }, text.len() as u64);
        self.data(&text);
        self.entry(header, content)
    }

    /// A header of our choice with a size of our choice, without its data.
    pub(crate) fn bare(mut self, header: &Header<'_>, size: u64) -> Tar {
        self.block(header, size);
        self
    }

    /// The tar with its end.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }

    fn block(&mut self, header: &Header<'_>, size: u64) {
        let mut block = [0u8; 512];
        let mut put = |at: usize, length: usize, bytes: &[u8]| {
            let count = bytes.len().min(length);
            block[at..at + count].copy_from_slice(&bytes[..count]);
        };
        put(0, 100, header.path.as_bytes());
        put(100, 8, format!("{:07o}", header.mode).as_bytes());
        put(108, 8, format!("{:07o}", header.uid).as_bytes());
        put(116, 8, format!("{:07o}", header.gid).as_bytes());
        put(124, 12, format!("{size:011o}").as_bytes());
        put(136, 12, format!("{:011o}", header.mtime).as_bytes());
        put(148, 8, b"        ");
        put(156, 1, &[header.type_flag]);
        put(157, 100, header.link.as_bytes());
        put(257, 8, b"ustar\x0000");
        put(329, 8, format!("{:07o}", header.device.0).as_bytes());
        put(337, 8, format!("{:07o}", header.device.1).as_bytes());
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&block);
    }

    fn data(&mut self, content: &[u8]) {
        self.0.extend_from_slice(content);
        let padding = content.len().next_multiple_of(512) - content.len();
        self.0.resize(self.0.len() + padding, 0);
    }
}
