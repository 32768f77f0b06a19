//! The data folder, secret files, and sealing.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use snowbank_core::signing::SecretKey;

use super::*;
use crate::config::SecretFileError;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_data_folder_is_private_and_made_with_its_parents() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("share/snowbank");
    let data_dir = DataDir::create(&path).unwrap();
    assert_eq!(mode(&path), 0o700);
    DataDir::create(&path).unwrap();
    assert!(
        matches!(DataDir::existing(&path), Err(SecretError::NoDataDir(_))),
        "a command does not set up"
    );
    Sealer::load_or_create(&data_dir).unwrap();
    DataDir::existing(&path).unwrap();
    assert_eq!(mode(&data_dir.server_key()), 0o600);
}

#[test]
fn a_place_that_cannot_be_a_data_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    for path in [file.clone(), file.join("below"), "/proc/snowbank".into()] {
        let message = DataDir::create(&path).unwrap_err().to_string();
        assert!(
            message.contains(path.to_str().unwrap()) && message.contains("--data-dir"),
            "{message}"
        );
    }
}

#[test]
fn a_folder_of_another_user_is_not_writable() {
    // Root may write anywhere but into a file system that takes no files.
    let path = if rustix::process::geteuid().is_root() { "/proc/self" } else { "/" };
    let error = DataDir::create(Path::new(path)).unwrap_err();
    assert!(matches!(error, SecretError::NotWritable { .. }), "{error}");
}

#[test]
fn one_server_at_a_time_has_a_data_folder() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = DataDir::create(folder.path()).unwrap();
    let lock = data_dir.lock().unwrap();
    assert!(matches!(data_dir.lock(), Err(SecretError::InUse(_))));
    assert!(matches!(DataDir::lock_if_used(folder.path()), Err(SecretError::InUse(_))));
    drop(lock);
    data_dir.lock().unwrap();
}

#[test]
fn a_secret_file_is_private_and_read_without_white_space() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    write_secret_file(&path, &SecretString::new("abc")).unwrap();
    write_secret_file(&path, &SecretString::new("def")).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(fs::read_to_string(&path).unwrap(), "def\n");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    fs::write(&path, "\n  def \r\n\n").unwrap();
    assert_eq!(read_secret_file(&path).unwrap().expose(), "def");
}

#[test]
fn what_is_wrong_with_a_secret_file_is_said_without_the_secret() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let said = |error: SecretFileError| {
        let message = error.to_string();
        assert!(message.contains(path.to_str().unwrap()), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
        message
    };
    assert!(matches!(read_secret_file(&path), Err(SecretFileError::Read { .. })));
    write_secret_file(&path, &SecretString::new(" ")).unwrap();
    assert!(said(read_secret_file(&path).unwrap_err()).contains("empty"));
    write_secret_file(&path, &SecretString::new("hunter2")).unwrap();
    for open in [0o644, 0o604, 0o660] {
        fs::set_permissions(&path, fs::Permissions::from_mode(open)).unwrap();
        assert!(said(read_secret_file(&path).unwrap_err()).contains("chmod 600"));
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
    assert_eq!(read_secret_file(&path).unwrap().expose(), "hunter2", "its group may read it");
    fs::remove_file(&path).unwrap();
    symlink("/nonexistent", &path).unwrap();
    said(read_secret_file(&path).unwrap_err());
}

#[test]
fn a_server_key_is_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = DataDir::create(folder.path()).unwrap();
    let sealed = Sealer::load_or_create(&data_dir).unwrap().seal("token key a", b"secret").unwrap();
    let key = fs::read(data_dir.server_key()).unwrap();
    let again = Sealer::load_or_create(&data_dir).unwrap();
    assert_eq!(fs::read(data_dir.server_key()).unwrap(), key);
    assert_eq!(again.open("token key a", &sealed).unwrap().as_slice(), b"secret");
    fs::write(data_dir.server_key(), "c2hvcnQ=\n").unwrap();
    assert!(matches!(Sealer::load(&data_dir), Err(SecretError::BadServerKey(_))));
}

#[test]
fn a_configured_server_key_has_to_be_there_and_needs_no_data_folder() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    let data_dir = DataDir::create(&folder.path().join("data")).unwrap();
    let message = Sealer::for_server(Some(&file), &data_dir).unwrap_err().to_string();
    assert!(
        message.contains("head -c 32 /dev/urandom | base64 >") && message.contains("chmod 600"),
        "{message}"
    );
    assert!(!data_dir.server_key().exists() && !file.exists(), "nothing is made");

    // 32 bytes as `base64` writes them.
    write_secret_file(&file, &SecretString::new("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="))
        .unwrap();
    let server = Sealer::for_server(Some(&file), &data_dir).unwrap();
    let command = Sealer::for_command(Some(&file), Path::new("/nonexistent")).unwrap();
    assert_eq!(server.key_id(), command.key_id());
    let sealed = server.seal("token key a", b"secret").unwrap();
    assert_eq!(command.open("token key a", &sealed).unwrap().as_slice(), b"secret");
    assert!(matches!(
        Sealer::for_command(None, Path::new("/nonexistent")),
        Err(SecretError::NoDataDir(_))
    ));
}

#[test]
fn a_key_id_tells_keys_apart() {
    let (one, two) = (Sealer::new(&[1; 32]), Sealer::new(&[2; 32]));
    assert_eq!((one.key_id().len(), two.key_id().len()), (16, 16));
    assert_ne!(one.key_id(), two.key_id());
    assert_eq!(one.key_id(), Sealer::new(&[1; 32]).key_id());
}

#[test]
fn a_sealed_secret_opens_only_with_its_key_for_its_purpose_and_unchanged() {
    let sealer = Sealer::new(&[1; 32]);
    let kept = sealer.seal("token key a", b"secret").unwrap();
    assert_eq!(sealer.open("token key a", &kept).unwrap().as_slice(), b"secret");
    assert_ne!(sealer.seal("token key a", b"secret").unwrap(), kept, "nonces differ");
    assert!(sealer.open("token key b", &kept).is_err());
    assert!(Sealer::new(&[2; 32]).open("token key a", &kept).is_err());
    for index in 0..kept.len() {
        let mut damaged = kept.clone();
        damaged[index] ^= 1;
        assert!(sealer.open("token key a", &damaged).is_err(), "byte {index}");
        assert!(sealer.open("token key a", &kept[..index]).is_err(), "cut at {index}");
    }
}

#[test]
fn a_signing_key_survives_sealing_and_cannot_take_another_name() {
    let sealer = Sealer::new(&[1; 32]);
    let key = SecretKey::from_seed("cache-1", [3; 32]).unwrap();
    let mut kept = sealer.seal_signing_key(&key).unwrap();
    let opened = sealer.open_signing_key(&kept).unwrap();
    assert_eq!(opened.public().to_string(), key.public().to_string());
    assert_eq!(kept.public_key, key.public().to_string());
    kept.name = "cache-2".to_owned();
    assert!(sealer.open_signing_key(&kept).is_err());
}

#[test]
fn no_debug_text_shows_a_secret() {
    let key = SecretKey::from_seed("cache-1", [3; 32]).unwrap();
    let sealed = Sealer::new(&[1; 32]).seal_signing_key(&key).unwrap();
    let texts =
        format!("{:?} {:?} {sealed:?}", SecretString::new("hunter2"), Sealer::new(&[1; 32]));
    assert!(!texts.contains("hunter2") && !texts.contains("sealed_secret"), "{texts}");
}
