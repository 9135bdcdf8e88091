//! Users and groups by name, as a container's own `/etc/passwd` and `/etc/group` have them.

use crate::spec::{User, UserSpec};

/// Looks a user up. Without a name to look up, both files may be empty.
///
/// # Errors
/// In words that kubectl users know, if a name is in neither file.
pub fn resolve(spec: &UserSpec, passwd: &str, group: &str) -> Result<User, String> {
    let (user, user_group) = match spec.user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (spec.user.as_str(), None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number = user.parse::<u32>().ok();
    let row = passwd.lines().map(Row::new).find(|row| match number {
        Some(number) => row.number(2) == Some(number),
        None => row.at(0) == user,
    });
    let uid = match (&row, number) {
        (Some(row), _) => {
            row.number(2).ok_or_else(|| format!("unable to find user {user}: no matching entries in passwd file"))?
        }
        (None, Some(number)) => number,
        (None, None) => return Err(format!("unable to find user {user}: no matching entries in passwd file")),
    };
    let gid = match (spec.group, user_group) {
        (Some(gid), _) => gid,
        (None, Some(name)) => match name.parse::<u32>() {
            Ok(gid) => gid,
            Err(_) => group
                .lines()
                .map(Row::new)
                .find(|row| row.at(0) == name)
                .and_then(|row| row.number(2))
                .ok_or_else(|| format!("unable to find group {name}: no matching entries in group file"))?,
        },
        (None, None) => row.as_ref().and_then(|row| row.number(3)).unwrap_or_default(),
    };
    let mut groups = vec![gid];
    if !spec.strict
        && let Some(row) = &row
    {
        let name = row.at(0);
        let of_user = group.lines().map(Row::new).filter(|row| row.at(3).split(',').any(|member| member == name));
        groups.extend(of_user.filter_map(|row| row.number(2)));
    }
    groups.extend(&spec.groups);
    let mut seen = Vec::new();
    groups.retain(|gid| {
        let is_new = !seen.contains(gid);
        seen.push(*gid);
        is_new
    });
    let home = row.map_or("/", |row| row.at(5));
    Ok(User { uid, gid, groups, home: if home.is_empty() { "/".to_owned() } else { home.to_owned() } })
}

/// A line of fields between colons.
struct Row<'a>(&'a str);

impl<'a> Row<'a> {
    fn new(line: &'a str) -> Row<'a> {
        Row(line.trim_end())
    }

    fn at(&self, index: usize) -> &'a str {
        self.0.split(':').nth(index).unwrap_or_default()
    }

    fn number(&self, index: usize) -> Option<u32> {
        self.at(index).parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102::/srv:/bin/false\n";
    const GROUP: &str = "root:x:0:\nweb:x:102:\nlogs:x:7:web,other\naudio:x:29:other\n";

    fn check(user: &str, change: impl Fn(&mut UserSpec), expect: &str) {
        let mut spec = UserSpec { user: user.into(), ..UserSpec::default() };
        change(&mut spec);
        let text = match resolve(&spec, PASSWD, GROUP) {
            Ok(user) => format!("{}:{} {:?} {}", user.uid, user.gid, user.groups, user.home),
            Err(e) => e,
        };
        assert_eq!(text, expect);
    }

    #[test]
    fn users_are_found_by_name_or_number() {
        check("", |_| {}, "0:0 [0] /root");
        check("web", |_| {}, "101:102 [102, 7] /srv");
        check("101", |_| {}, "101:102 [102, 7] /srv");
        check("web:logs", |_| {}, "101:7 [7] /srv");
        check("1000", |_| {}, "1000:0 [0] /");
        check("1000:1000", |_| {}, "1000:1000 [1000] /");
        check("nobody", |_| {}, "unable to find user nobody: no matching entries in passwd file");
        check("web:none", |_| {}, "unable to find group none: no matching entries in group file");
    }

    #[test]
    fn given_groups_join_those_of_the_image_or_replace_them() {
        check("web", |spec| spec.groups = vec![2000, 7], "101:102 [102, 7, 2000] /srv");
        check("web", |spec| (spec.groups, spec.strict) = (vec![2000], true), "101:102 [102, 2000] /srv");
        check("web", |spec| spec.group = Some(3000), "101:3000 [3000, 7] /srv");
    }
}
