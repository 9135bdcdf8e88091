//! `--token-auth-file`: a CSV file of `token,user,uid,"group1,group2"`.

use crate::authenticator::{TokenAuthenticator, TokenUser};
use crate::cache::TokenHasher;
use crate::user::UserInfo;
use ring::digest;
use smol_str::SmolStr;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Why the file is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFileError {
    /// The quoting is broken.
    #[error("record {record}: {reason}")]
    Csv {
        /// The record, from 1.
        record: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// A record is too short.
    #[error("must have at least 3 columns (token, user name, user uid), found {found}")]
    Columns {
        /// How many there are.
        found: usize,
    },
    /// The key for hashing could not be made.
    #[error("random numbers are not available")]
    Random,
}

/// The tokens of a file. Tokens themselves are not kept, only keyed hashes.
pub struct StaticTokens {
    hasher: TokenHasher,
    users: HashMap<[u8; digest::SHA256_OUTPUT_LEN], Arc<UserInfo>>,
    api_audiences: Vec<String>,
    warnings: Vec<String>,
}

impl fmt::Debug for StaticTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StaticTokens({} tokens)", self.users.len())
    }
}

impl StaticTokens {
    /// Reads the file's text. Its tokens are good for the API server's audiences.
    pub fn from_csv(text: &str, api_audiences: &[String]) -> Result<Self, TokenFileError> {
        let hasher = TokenHasher::new().ok_or(TokenFileError::Random)?;
        let mut users = HashMap::new();
        let mut warnings = Vec::new();
        for (at, record) in records(text)?.into_iter().enumerate() {
            let [token, name, uid, rest @ ..] = record.as_slice() else {
                return Err(TokenFileError::Columns { found: record.len() });
            };
            if token.is_empty() {
                warnings.push(format!("empty token has been found in token file, record number '{}'", at + 1));
                continue;
            }
            let groups = rest.first().map(|groups| groups.split(',').map(SmolStr::from).collect()).unwrap_or_default();
            let user = UserInfo { name: name.into(), uid: uid.into(), groups, ..UserInfo::default() };
            if users.insert(hasher.hash(token, &[]), Arc::new(user.authenticated())).is_some() {
                warnings.push(format!("duplicate token has been found in token file, record number '{}'", at + 1));
            }
        }
        Ok(Self { hasher, users, api_audiences: api_audiences.to_vec(), warnings })
    }

    /// What the operator should know about the file.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

impl TokenAuthenticator for StaticTokens {
    fn authenticate_token(&self, token: &str, audiences: &[String], _now: i64) -> Result<Option<TokenUser>, String> {
        let audiences: Vec<String> =
            audiences.iter().filter(|audience| self.api_audiences.contains(audience)).cloned().collect();
        if audiences.is_empty() && !self.api_audiences.is_empty() {
            return Ok(None);
        }
        let user = self.users.get(&self.hasher.hash(token, &[]));
        Ok(user.map(|user| TokenUser {
            user: Arc::clone(user),
            audiences: audiences.into(),
            notes: None,
            expires_at: None,
        }))
    }
}

/// Comma-separated values as Go reads them: fields may be quoted, a quote within is doubled, empty lines do not count.
fn records(text: &str) -> Result<Vec<Vec<String>>, TokenFileError> {
    let mut records: Vec<Vec<String>> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('\n').or_else(|| rest.strip_prefix("\r\n")) {
            rest = after;
            continue;
        }
        let fault = |reason| TokenFileError::Csv { record: records.len() + 1, reason };
        let mut record = Vec::new();
        loop {
            let mut field = String::new();
            if let Some(mut quoted) = rest.strip_prefix('"') {
                loop {
                    let (part, after) = quoted.split_once('"').ok_or_else(|| fault("a quote is not closed"))?;
                    field.push_str(part);
                    match after.strip_prefix('"') {
                        Some(after) => {
                            field.push('"');
                            quoted = after;
                        }
                        None => {
                            rest = after;
                            break;
                        }
                    }
                }
            } else {
                let end = rest.find([',', '\n']).unwrap_or(rest.len());
                let (part, after) = rest.split_at(end);
                let part = if after.starts_with(',') { part } else { part.strip_suffix('\r').unwrap_or(part) };
                if part.contains('"') {
                    return Err(fault("a quote stands in a field that is not quoted"));
                }
                field.push_str(part);
                rest = after;
            }
            record.push(field);
            if let Some(after) = rest.strip_prefix(',') {
                rest = after;
                continue;
            }
            let line_end = rest.strip_prefix('\n').or_else(|| rest.strip_prefix("\r\n"));
            rest = match line_end {
                Some(after) => after,
                None if rest.is_empty() || rest == "\r" => "",
                None => return Err(fault("text follows a closing quote")),
            };
            break;
        }
        records.push(record);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_go_reads_them() {
        let check = |text: &str, want: Result<&[&[&str]], &str>| match (records(text), want) {
            (Ok(got), Ok(want)) => assert_eq!(got, want, "{text:?}"),
            (Err(got), Err(want)) => assert_eq!(got.to_string(), want, "{text:?}"),
            (got, want) => panic!("{text:?}: {got:?}, wanted {want:?}"),
        };
        check("", Ok(&[]));
        check("\n\r\n", Ok(&[]));
        check("a,b\nc", Ok(&[&["a", "b"], &["c"]]));
        check("a,b\r\nc,\r\n", Ok(&[&["a", "b"], &["c", ""]]));
        check("a,\"b,c\",d", Ok(&[&["a", "b,c", "d"]]));
        check("\"a\"\"b\"\n", Ok(&[&["a\"b"]]));
        check("\"a\nb\",c\n", Ok(&[&["a\nb", "c"]]));
        check(" a , b ", Ok(&[&[" a ", " b "]]));
        check("\"a", Err("record 1: a quote is not closed"));
        check("x\n\"a\"b", Err("record 2: text follows a closing quote"));
        check("a\"b", Err("record 1: a quote stands in a field that is not quoted"));
    }
}
