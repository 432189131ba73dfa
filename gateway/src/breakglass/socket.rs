//! Who may break the glass?
//!
//! Whoever reaches a unix socket on the gateway's machine, and is root, the gateway's own user, or a user
//! that the configuration names. The kernel says who it is; the audit is told. Nothing else is asked for:
//! the socket is for the hour in which certificates, etcd and the network may all be what is broken.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};
use suiyue_proto::v1::BreakglassActor;
use tokio::net::{UnixListener, unix::UCred};
use tokio_stream::wrappers::UnixListenerStream;

/// Bytes of a path that the kernel takes.
pub const MAX_PATH: usize = 107;

/// Users who may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Users {
    own: u32,
    named: Vec<u32>,
}

impl Users {
    /// Root, `own`, and those.
    #[must_use]
    pub const fn new(own: u32, named: Vec<u32>) -> Self {
        Self { own, named }
    }

    /// This user may.
    #[must_use]
    pub fn may(&self, uid: u32) -> bool {
        uid == 0 || uid == self.own || self.named.contains(&uid)
    }
}

/// The socket while it is open; its file goes with it.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    users: Users,
    listener: Option<UnixListener>,
}

impl Socket {
    /// Opens it. A file that a killed gateway left behind is replaced; one that somebody answers on is not.
    /// Only the gateway's user can reach it, or also its group where other users are named.
    ///
    /// # Errors
    /// Somebody answers there, something else stands there, or it cannot be opened.
    pub fn open(path: &Path, named: &[u32]) -> io::Result<Self> {
        if let Ok(standing) = fs::symlink_metadata(path) {
            if !standing.file_type().is_socket() {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "something else than a socket is there",
                ));
            }
            if UnixStream::connect(path).is_ok() {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "another gateway answers there"));
            }
            fs::remove_file(path)?;
        }
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let listener = UnixListener::bind(path)?;
        let mode = if named.is_empty() { 0o600 } else { 0o660 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        // The file is ours: its owner is who we are.
        let users = Users::new(fs::metadata(path)?.uid(), named.to_vec());
        Ok(Self { path: path.to_owned(), users, listener: Some(listener) })
    }

    /// Who may.
    #[must_use]
    pub const fn users(&self) -> &Users {
        &self.users
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Connections as they come; the first time only.
    pub fn incoming(&mut self) -> Option<UnixListenerStream> {
        self.listener.take().map(UnixListenerStream::new)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Who the kernel says it is, with the name of the user on this machine.
#[must_use]
pub fn actor(peer: UCred) -> BreakglassActor {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    BreakglassActor {
        uid: peer.uid(),
        gid: peer.gid(),
        pid: peer.pid().unwrap_or(0),
        user: user(&users, peer.uid()).unwrap_or_default(),
        says: String::new(),
    }
}

/// The name of a user in the form of `passwd`.
fn user(passwd: &str, uid: u32) -> Option<String> {
    let uid = uid.to_string();
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(uid.as_str()))?;
    let name = line.split(':').next()?;
    crate::audit::actor::is_actor(name).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_the_gateways_user_and_who_is_named_may() {
        let users = Users::new(998, vec![1001]);
        assert_eq!([0, 998, 1001, 1002, 65_534].map(|uid| users.may(uid)), [true, true, true, false, false]);
        assert!(!Users::new(0, Vec::new()).may(998));
    }

    #[test]
    fn a_user_has_the_name_of_this_machine() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nli:x:1001:1001::/home/li:/bin/sh\nbad name:x:7:7:::\n";
        assert_eq!(user(passwd, 0).as_deref(), Some("root"));
        assert_eq!(user(passwd, 1001).as_deref(), Some("li"));
        assert_eq!((user(passwd, 1), user(passwd, 7), user("", 0)), (None, None, None));
    }

    #[tokio::test]
    async fn a_socket_that_was_left_behind_is_replaced_and_one_in_use_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/breakglass.sock");
        let socket = Socket::open(&path, &[]).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(Socket::open(&path, &[]).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        // Killed: the file stays, and nobody answers.
        let mut killed = socket;
        drop(killed.incoming());
        let path_of_killed = std::mem::take(&mut killed.path);
        drop(killed);
        assert!(path_of_killed.exists());
        let again = Socket::open(&path, &[1001]).unwrap();
        assert_eq!(mode(&path), 0o660);
        drop(again);
        assert!(!path.exists());
        fs::write(&path, "a file").unwrap();
        assert_eq!(Socket::open(&path, &[]).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
