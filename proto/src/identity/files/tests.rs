use super::*;
use crate::identity::{
    Usage,
    issue::{Authority, Order},
};

const URI: &str = "spiffe://lingnan/gateway/gw-1";

struct Place {
    dir: tempfile::TempDir,
    authority: Authority,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (authority, _) = Authority::new("Guangdong", 0, now() + 1000).unwrap();
        let place = Self { dir, authority };
        fs::write(place.files().trust, place.authority.cert()).unwrap();
        place.put(URI, 500);
        place
    }

    fn files(&self) -> Files {
        let path = |name| self.dir.path().join(name);
        Files { cert: path("cert.pem"), key: path("key.pem"), trust: path("trust.pem") }
    }

    fn put(&self, uri: &str, lives_s: i64) {
        let order = Order {
            uris: vec![uri.to_owned()],
            hosts: Vec::new(),
            uses: vec![Usage::Client, Usage::Server],
            not_before_unix_s: now() - 10,
            not_after_unix_s: now() + lives_s,
        };
        let issued = self.authority.issue(&order).unwrap();
        fs::write(self.files().cert, issued.cert).unwrap();
        fs::write(self.files().key, issued.key).unwrap();
        fs::set_permissions(self.files().key, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn open(&self) -> Result<Identity, Error> {
        Identity::open(self.files())
    }
}

#[test]
fn a_key_that_others_may_read_is_refused_with_the_remedy() {
    let place = Place::new();
    fs::set_permissions(place.files().key, fs::Permissions::from_mode(0o640)).unwrap();
    let error = place.open().unwrap_err().to_string();
    assert!(error.contains("chmod 600") && error.contains("key.pem"), "{error}");
}

#[test]
fn each_bad_file_is_named() {
    let check = |break_it: &dyn Fn(&Files), name: &str| {
        let place = Place::new();
        break_it(&place.files());
        let error = place.open().unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    };
    check(&|files| fs::remove_file(&files.cert).unwrap(), "cert.pem");
    check(&|files| fs::remove_file(&files.key).unwrap(), "key.pem");
    check(&|files| fs::remove_file(&files.trust).unwrap(), "trust.pem");
    check(&|files| fs::write(&files.cert, "x").unwrap(), "cert.pem");
    check(&|files| fs::write(&files.key, "x").unwrap(), "key.pem");
    check(&|files| fs::write(&files.trust, "x").unwrap(), "trust.pem");
    check(&|files| assert!(fs::copy(&files.trust, &files.cert).is_ok()), "an authority's");
    let place = Place::new();
    place.put(URI, -1);
    assert!(matches!(place.open(), Err(Error::Certificate { why: Refused::Time, .. })));
    // A key of another certificate.
    let other = Place::new();
    fs::copy(other.files().key, place.files().key).unwrap();
    place.put(URI, 100);
    fs::copy(other.files().key, place.files().key).unwrap();
    assert!(matches!(place.open(), Err(Error::Key { .. })));
}

#[test]
fn new_files_are_shown_and_bad_ones_change_nothing() {
    let place = Place::new();
    let identity = place.open().unwrap();
    let mut keeper = identity.keeper();
    let first = identity.shown().leaf.serial.clone();
    keeper.look(&identity);
    assert_eq!(identity.shown().leaf.serial, first);

    place.put(URI, 600);
    keeper.look(&identity);
    let second = identity.shown().leaf.serial.clone();
    assert_ne!(second, first);

    fs::write(place.files().cert, "half a file").unwrap();
    for complained in [false, true, true] {
        keeper.look(&identity);
        assert_eq!(identity.shown().leaf.serial, second);
        assert_eq!(keeper.files.complained, complained, "after the second look, once");
    }
    // A certificate of somebody else is no renewal.
    place.put("spiffe://lingnan/gateway/gw-2", 600);
    keeper.look(&identity);
    keeper.look(&identity);
    assert!(keeper.files.complained);
    assert_eq!(identity.shown().leaf.id.to_string(), URI);
    place.put(URI, 600);
    keeper.look(&identity);
    assert!(identity.shown().leaf.serial != second && !keeper.files.complained);
}

#[test]
fn an_end_that_is_near_is_warned_of_once_a_certificate() {
    let place = Place::new();
    let identity = place.open().unwrap();
    let mut keeper = identity.keeper();
    keeper.look(&identity);
    assert_eq!(keeper.warned, Some(identity.shown().leaf.not_after_unix_s));
    place.put(URI, 2 * SOON_S);
    keeper.look(&identity);
    assert_ne!(keeper.warned, Some(identity.shown().leaf.not_after_unix_s), "not yet");
}
