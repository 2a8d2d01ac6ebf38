//! Names of users, from /etc/passwd and nowhere else: a directory service behind getpwuid(3) can keep us waiting for
//! seconds, and a name in a message is not worth that.

use std::fs;

/// The name of the user with this number, or the number if /etc/passwd has no name for it (passwd(5)).
#[must_use]
pub fn name(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    find(&passwd, uid).map_or_else(|| uid.to_string(), str::to_owned)
}

fn find(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_field_is_the_number() {
        let passwd = "root:x:0:0:root:/:/bin/sh\n\n:x:7:\n+::::::\nbroken:x\nwww-data:x:33:33::/:/bin/false\n";
        assert_eq!(find(passwd, 0), Some("root"));
        assert_eq!(find(passwd, 33), Some("www-data"));
        assert_eq!(find(passwd, 7), None);
        assert_eq!(find(passwd, 1000), None);
    }
}
