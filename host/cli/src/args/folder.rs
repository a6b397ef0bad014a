//! A folder that is granted: `FOLDER[::NAME][:ro]`.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use halfopen::Grants;

/// A folder of the host, and the name by which the component opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FolderArg {
    host: String,
    guest: String,
    read_only: bool,
}

impl FolderArg {
    /// Adds the folder to `grants`.
    pub(crate) fn add_to(&self, grants: Grants) -> Grants {
        match self.read_only {
            true => grants.dir_read_only(&self.host, &self.guest),
            false => grants.dir(&self.host, &self.guest),
        }
    }

    pub(crate) fn host(&self) -> &Path {
        Path::new(&self.host)
    }

    /// Reads a value of a configuration file: a relative path starts at `base`, and the name
    /// inside the component is what was written.
    pub(crate) fn within(text: &str, base: &Path) -> Result<String, String> {
        let FolderArg {
            host,
            guest,
            read_only,
        } = text.parse()?;
        let host = base.join(host);
        let mode = if read_only { ":ro" } else { ":rw" };
        Ok(format!("{}::{guest}{mode}", host.display()))
    }
}

impl FromStr for FolderArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (folder, read_only) = match text.strip_suffix(":ro") {
            Some(folder) => (folder, true),
            None => (text.strip_suffix(":rw").unwrap_or(text), false),
        };
        let (host, guest) = folder.split_once("::").unwrap_or((folder, folder));
        if host.is_empty() || guest.is_empty() {
            return Err(
                "write FOLDER or FOLDER::NAME, and :ro behind it for reading alone, such \
                 as /srv/files::/data:ro"
                    .to_owned(),
            );
        }
        Ok(FolderArg {
            host: host.to_owned(),
            guest: guest.to_owned(),
            read_only,
        })
    }
}

/// For people.
impl fmt::Display for FolderArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        if self.host != self.guest {
            write!(f, " as {}", self.guest)?;
        }
        if self.read_only {
            f.write_str(", read-only")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_a_name_and_may_be_read_only() {
        for (text, expected) in [
            ("data", "data"),
            ("data:ro", "data, read-only"),
            ("/srv/a::/data", "/srv/a as /data"),
            ("/srv/a::/data:ro", "/srv/a as /data, read-only"),
            ("odd:ro:rw", "odd:ro"),
        ] {
            let folder: FolderArg = text.parse().unwrap();
            assert_eq!(folder.to_string(), expected);
        }
        for text in ["", "::", "a::", "::/data", ":ro", "::a:ro"] {
            let error = text.parse::<FolderArg>().unwrap_err();
            assert!(error.contains("/srv/files::/data:ro"), "{error}");
        }
    }

    #[test]
    fn a_configuration_file_names_folders_beside_itself() {
        let within = |text: &str| FolderArg::within(text, Path::new("/etc/halfopen"));
        assert_eq!(within("data").unwrap(), "/etc/halfopen/data::data:rw");
        assert_eq!(within("/a::b:ro").unwrap(), "/a::b:ro");
    }
}
