//! A snapshot may come from a stranger: what opening one accepts, and what it refuses by name.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::io::Write;
use std::path::Path;

use kubectl_knet::archive::{self, ArchiveError, Files, Limits, Refusal, Source};
use tar::{Builder, EntryType, Header};

const LINK: &str = "nodes/n1/host/link.json";

/// A tar built entry by entry; paths are written as they are, however evil.
struct Tar(Vec<u8>);

impl Tar {
    fn new() -> Self {
        Self(Vec::new())
    }

    /// A snapshot with one file in it.
    fn good() -> Self {
        Self::new()
            .file("manifest.json", br#"{"schema":"knet.snapshot/v1"}"#)
            .file(LINK, b"[]")
    }

    fn entry(mut self, path: &str, kind: EntryType, target: &str, data: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..path.len()].copy_from_slice(path.as_bytes());
        old.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, path: &str, data: &[u8]) -> Self {
        self.entry(path, EntryType::Regular, "", data)
    }

    fn link(self, path: &str, target: &str) -> Self {
        self.entry(path, EntryType::Symlink, target, b"")
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

fn open_bytes(bytes: &[u8], limits: &Limits) -> Result<Files, ArchiveError> {
    let dir = tempfile::tempdir().unwrap();
    // The name says nothing: what it is is told by the bytes.
    let path = dir.path().join("snapshot.bin");
    std::fs::write(&path, bytes).unwrap();
    archive::open(&Source::Path(path), limits)
}

fn open(tar: Tar) -> Result<Files, ArchiveError> {
    open_bytes(&tar.end(), &Limits::default())
}

#[track_caller]
fn refused(result: Result<Files, ArchiveError>, entry: &str, why: Refusal) {
    match result {
        Err(ArchiveError::Refused { entry: e, why: w, .. }) => assert_eq!((e.as_str(), w), (entry, why)),
        Err(other) => panic!("refused, but for another reason: {other}"),
        Ok(files) => panic!("accepted: {:?}", files.files.keys().collect::<Vec<_>>()),
    }
}

#[track_caller]
fn bytes<'f>(files: &'f Files, path: &str) -> &'f [u8] {
    (*files.files[path]).as_ref()
}

#[track_caller]
fn error(result: Result<Files, ArchiveError>) -> String {
    match result {
        Err(error) => error.to_string(),
        Ok(files) => panic!("accepted: {:?}", files.files.keys().collect::<Vec<_>>()),
    }
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(data).unwrap();
    gz.finish().unwrap()
}

fn zstd(data: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest)
}

#[test]
fn the_three_packings_and_a_directory_hold_the_same() {
    let tar = Tar::good().end();
    let dir = tempfile::tempdir().unwrap();
    tar::Archive::new(&tar[..]).unpack(dir.path()).unwrap();
    let from_dir = archive::open(&Source::Path(dir.path().into()), &Limits::default()).unwrap();
    let names: Vec<_> = from_dir.files.keys().cloned().collect();
    assert_eq!(names, ["manifest.json", LINK]);
    for packed in [tar.clone(), gzip(&tar), zstd(&tar)] {
        let files = open_bytes(&packed, &Limits::default()).unwrap();
        assert_eq!(files.files.keys().cloned().collect::<Vec<_>>(), names);
        assert_eq!(bytes(&files, LINK), b"[]");
        assert_eq!(files.problems, []);
    }
}

#[test]
fn gzip_members_and_zstd_frames_are_one_stream() {
    let tar = Tar::good().end();
    let (a, b) = tar.split_at(700);
    let gz = [gzip(a), gzip(b)].concat();
    assert_eq!(open_bytes(&gz, &Limits::default()).unwrap().files.len(), 2);
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let zst = [skippable, zstd(a), zstd(b)].concat();
    assert_eq!(open_bytes(&zst, &Limits::default()).unwrap().files.len(), 2);
}

#[test]
fn the_snapshot_may_stand_in_one_folder() {
    let files = open(
        Tar::new()
            .file("./cluster-a/manifest.json", b"{}")
            .file("cluster-a/./nodes/n1/node.json", b"{}"),
    );
    assert_eq!(
        files.unwrap().files.keys().collect::<Vec<_>>(),
        ["manifest.json", "nodes/n1/node.json"]
    );
    let two = open(Tar::new().file("a/manifest.json", b"{}").file("b/manifest.json", b"{}"));
    assert!(matches!(two, Err(ArchiveError::NotASnapshot(_))));
}

#[test]
fn long_names_of_gnu_and_pax_are_understood() {
    let long = format!("nodes/n1/netns/{}/link.json", "x".repeat(200));
    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_size(2);
    builder.append_data(&mut header, &long, &b"[]"[..]).unwrap();
    let files = open_bytes(&builder.into_inner().unwrap(), &Limits::default()).unwrap();
    assert_eq!(bytes(&files, &long), b"[]");
}

#[test]
fn paths_that_leave_the_snapshot_are_refused() {
    refused(
        open(Tar::good().file("/etc/passwd", b"x")),
        "/etc/passwd",
        Refusal::Absolute,
    );
    refused(
        open(Tar::good().file("nodes/../../x", b"x")),
        "nodes/../../x",
        Refusal::ParentDir,
    );
    refused(open(Tar::good().file("..", b"x")), "..", Refusal::ParentDir);
    let deep = "d/".repeat(40) + "f";
    refused(open(Tar::good().file(&deep, b"x")), &deep, Refusal::PathTooLong);
}

#[test]
fn links_are_resolved_inside_and_refused_outside() {
    let files = open(
        Tar::good()
            .link("nodes/n1/host/addr.json", "link.json")
            .link("nodes/n2", "n1")
            .link("nodes/n3", "./n2/../n2")
            .entry("nodes/n1/host/rule.json", EntryType::Link, LINK, b""),
    )
    .unwrap();
    for path in [
        "nodes/n1/host/addr.json",
        "nodes/n2/host/link.json",
        "nodes/n3/host/link.json",
        "nodes/n1/host/rule.json",
    ] {
        assert_eq!(bytes(&files, path), b"[]", "{path}");
    }
    for target in ["/etc/passwd", "../../../../etc/passwd", "../../../x"] {
        refused(
            open(Tar::good().link("nodes/n1/x", target)),
            "nodes/n1/x",
            Refusal::LinkLeaves,
        );
    }
    let hard = Tar::good().entry("nodes/n1/x", EntryType::Link, "../etc/passwd", b"");
    refused(open(hard), "nodes/n1/x", Refusal::LinkLeaves);
    refused(
        open(Tar::good().link("nodes/a", "b").link("nodes/b", "a")),
        "nodes/a",
        Refusal::LinkLoop,
    );
    // A folder inside itself never comes to an end either.
    refused(
        open(Tar::good().link("nodes/n1/self", "self/self")),
        "nodes/n1/self",
        Refusal::LinkLoop,
    );
}

#[test]
fn a_dangling_link_is_a_problem_and_not_an_empty_table() {
    let files = open(Tar::good().link("nodes/n1/host/addr.json", "gone.json")).unwrap();
    assert!(!files.files.contains_key("nodes/n1/host/addr.json"));
    assert_eq!(files.problems[0].artifact, "nodes/n1/host/addr.json");
    assert!(files.problems[0].what.contains("gone.json"), "{:?}", files.problems);
}

#[test]
fn links_to_folders_do_not_multiply() {
    let mut tar = Tar::good();
    for i in 0..8 {
        tar = tar.link(&format!("nodes/n1/l{i}"), "host");
    }
    let limits = Limits {
        entries: 12,
        ..Limits::default()
    };
    refused(
        open_bytes(&tar.end(), &limits),
        "nodes/n1/l2/link.json",
        Refusal::TooManyEntries(12),
    );
}

#[test]
fn the_same_path_twice_is_refused() {
    refused(open(Tar::good().file(LINK, b"[1]")), LINK, Refusal::Duplicate);
    refused(
        open(Tar::good().file("./nodes/n1//host/link.json", b"[1]")),
        "./nodes/n1//host/link.json",
        Refusal::Duplicate,
    );
    refused(open(Tar::good().link(LINK, "addr.json")), LINK, Refusal::Duplicate);
}

#[test]
fn only_files_folders_and_links_are_accepted() {
    for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo] {
        refused(
            open(Tar::good().entry("nodes/dev", kind, "", b"")),
            "nodes/dev",
            Refusal::Special,
        );
    }
    let unknown = EntryType::new(b'V');
    refused(
        open(Tar::good().entry("nodes/label", unknown, "", b"")),
        "nodes/label",
        Refusal::Exotic,
    );
    let mut sparse = Header::new_gnu();
    sparse.set_path("nodes/sparse").unwrap();
    sparse.set_entry_type(EntryType::GNUSparse);
    // Half a kilobyte that says it is four gigabytes.
    sparse.set_size(512);
    let gnu = sparse.as_gnu_mut().unwrap();
    gnu.set_real_size(1 << 32);
    gnu.sparse[0].offset[..11].copy_from_slice(b"37777777000");
    gnu.sparse[0].numbytes[..11].copy_from_slice(b"00000001000");
    sparse.set_cksum();
    let tar = [&Tar::good().0[..], sparse.as_bytes(), &[0; 512], &[0; 1024]].concat();
    refused(open_bytes(&tar, &Limits::default()), "nodes/sparse", Refusal::Exotic);
}

#[test]
fn too_many_too_large_and_too_dense_are_refused_by_name() {
    let many = (0..20).fold(Tar::good(), |tar, i| tar.file(&format!("nodes/n1/files/{i}"), b""));
    let limits = Limits {
        entries: 10,
        ..Limits::default()
    };
    refused(
        open_bytes(&many.end(), &limits),
        "nodes/n1/files/8",
        Refusal::TooManyEntries(10),
    );

    let big = Tar::good().file("nodes/n1/big", &[0; 5000]).end();
    let limits = Limits {
        file_bytes: 4096,
        ..Limits::default()
    };
    refused(open_bytes(&big, &limits), "nodes/n1/big", Refusal::FileTooLarge(4096));

    let zeros = Tar::good()
        .file("nodes/n1/zeros", &vec![0; 8 << 20])
        .file("nodes/n1/after", b"")
        .end();
    for packed in [gzip(&zeros), zstd(&zeros)] {
        let limits = Limits {
            total_bytes: 2 << 20,
            ..Limits::default()
        };
        refused(
            open_bytes(&packed, &limits),
            "nodes/n1/zeros",
            Refusal::TooLarge(2 << 20),
        );
        let limits = Limits {
            ratio: 50,
            ratio_from: 1 << 20,
            ..Limits::default()
        };
        refused(open_bytes(&packed, &limits), "nodes/n1/zeros", Refusal::Bomb(50));
        assert_eq!(open_bytes(&packed, &Limits::default()).unwrap().files.len(), 4);
    }
}

/// What does not fit into the memory it may have is mapped from a file without a name, and is the same.
#[test]
fn a_large_archive_is_unpacked_beside_memory() {
    let noise: Vec<u8> = (0..5_000_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let tar = Tar::good()
        .file("nodes/n1/noise", &noise)
        .file("nodes/n1/after", b"x")
        .end();
    for held_bytes in [0, 3 << 20, 1 << 30] {
        let limits = Limits {
            held_bytes,
            ..Limits::default()
        };
        // Two members or frames, the second of which begins beside memory.
        let (first, second) = tar.split_at(4_000_000);
        for packed in [
            gzip(&tar),
            zstd(&tar),
            [gzip(first), gzip(second)].concat(),
            [zstd(first), zstd(second)].concat(),
        ] {
            let files = open_bytes(&packed, &limits).unwrap();
            assert_eq!(files.files.len(), 4, "{held_bytes}");
            assert!(bytes(&files, "nodes/n1/noise") == noise, "{held_bytes}");
            assert_eq!(bytes(&files, "nodes/n1/after"), b"x");
            // Cut off, it says after which entry.
            let message = error(open_bytes(&packed[..packed.len() / 2], &limits));
            assert!(message.contains("nodes/n1/noise"), "{held_bytes}: {message}");
            // The limit of the whole holds as before.
            let total_bytes = 2 << 20;
            let limits = Limits { total_bytes, ..limits };
            refused(
                open_bytes(&packed, &limits),
                "nodes/n1/noise",
                Refusal::TooLarge(total_bytes),
            );
        }
    }
}

#[test]
fn a_declared_size_is_not_believed() {
    let mut header = Header::new_gnu();
    header.set_path("nodes/n1/huge").unwrap();
    header.set_size(1 << 40);
    header.set_entry_type(EntryType::Regular);
    header.set_cksum();
    let tar = [&Tar::good().0[..], header.as_bytes(), b"short"].concat();
    let message = error(open_bytes(&tar, &Limits::default()));
    assert!(
        message.contains("nodes/n1/huge") && message.contains("cut off"),
        "{message}"
    );
}

#[test]
fn a_cut_off_archive_is_never_taken_for_a_whole_one() {
    let tar = Tar::good().file("nodes/n1/host/sysctl.txt", &[b'x'; 40_000]).end();
    for (name, packed) in [("tar", tar.clone()), ("gzip", gzip(&tar)), ("zstd", zstd(&tar))] {
        for cut in (0..packed.len()).step_by(packed.len() / 37 + 1) {
            match open_bytes(&packed[..cut], &Limits::default()) {
                Err(_) => {}
                // A plain tar cut exactly between two entries looks whole but for its end mark.
                Ok(files) => assert!(
                    files.problems.iter().any(|p| p.what.contains("end mark")),
                    "{name} cut at {cut}"
                ),
            }
        }
    }
    let message = error(open_bytes(&gzip(&tar)[..60], &Limits::default()));
    assert!(message.contains("damaged or cut off"), "{message}");
}

#[test]
fn damaged_compression_is_an_error() {
    let tar = Tar::good()
        .file(
            "nodes/n1/host/sysctl.txt",
            "net.ipv4.ip_forward = 1\n".repeat(900).as_bytes(),
        )
        .end();
    for mut packed in [gzip(&tar), zstd(&tar)] {
        for at in (12..packed.len()).step_by(packed.len() / 50 + 1) {
            packed[at] ^= 0x55;
            // Whatever comes out, it comes out: an error, or bytes that the parsers will judge.
            let _ = open_bytes(&packed, &Limits::default());
            packed[at] ^= 0x55;
        }
    }
}

#[test]
fn what_is_no_archive_is_named() {
    let say = |bytes: &[u8]| error(open_bytes(bytes, &Limits::default()));
    assert!(say(b"").contains("empty"));
    assert!(say(b"PK\x03\x04....").contains("zip"));
    assert!(say(b"\xfd7zXZ\0....").contains("xz"));
    assert!(say(b"{\"schema\":1}").contains("JSON"));
    assert!(say(b"hello").contains("neither a tar archive nor gzip nor zstd"));
    assert!(say(&gzip(b"hello")).contains("no tar is inside"));
    assert!(say(&zstd(b"hello")).contains("no tar is inside"));
    assert!(say(&[0; 1024]).contains("not a snapshot"));
    assert!(say(&Tar::new().file("readme", b"x").end()).contains("not a snapshot"));
}

#[test]
fn a_file_that_is_not_there_says_which() {
    let message = error(archive::open(
        &Source::Path("/nowhere/x.tar".into()),
        &Limits::default(),
    ));
    assert!(message.starts_with("/nowhere/x.tar: "), "{message}");
}

#[cfg(unix)]
mod directory {
    use super::*;
    use std::os::unix::fs::symlink;

    fn dir() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        tar::Archive::new(&Tar::good().end()[..]).unpack(dir.path()).unwrap();
        dir
    }

    fn open(dir: &Path) -> Result<Files, ArchiveError> {
        archive::open(&Source::Path(dir.into()), &Limits::default())
    }

    #[test]
    fn links_stay_inside() {
        let dir = dir();
        symlink("link.json", dir.path().join("nodes/n1/host/addr.json")).unwrap();
        assert_eq!(bytes(&open(dir.path()).unwrap(), "nodes/n1/host/addr.json"), b"[]");
        symlink("/etc/passwd", dir.path().join("nodes/n1/host/rule.json")).unwrap();
        refused(open(dir.path()), "nodes/n1/host/rule.json", Refusal::LinkLeaves);
    }

    #[test]
    fn a_folder_linked_into_itself_ends() {
        let dir = dir();
        symlink(".", dir.path().join("nodes/n1/loop")).unwrap();
        let files = open(dir.path()).unwrap();
        assert_eq!(files.files.len(), 3, "{:?}", files.files.keys().collect::<Vec<_>>());
    }

    #[test]
    fn a_socket_is_refused() {
        let dir = dir();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("nodes/n1/sock")).unwrap();
        refused(open(dir.path()), "nodes/n1/sock", Refusal::Special);
    }

    #[test]
    fn big_files_are_mapped_and_read_the_same() {
        let dir = dir();
        let big = vec![b'#'; 3 << 20];
        std::fs::write(dir.path().join("nodes/n1/host/iptables-nft.save"), &big).unwrap();
        assert!(bytes(&open(dir.path()).unwrap(), "nodes/n1/host/iptables-nft.save") == big);
    }

    #[test]
    fn a_directory_without_a_snapshot_is_not_searched() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("readme"), "x").unwrap();
        assert!(matches!(open(dir.path()), Err(ArchiveError::NotASnapshot(_))));
        assert!(matches!(
            open(Path::new("/proc/self")),
            Err(ArchiveError::NotASnapshot(_))
        ));
    }

    #[test]
    fn one_without_a_manifest_is_fine() {
        let dir = dir();
        std::fs::remove_file(dir.path().join("manifest.json")).unwrap();
        assert_eq!(open(dir.path()).unwrap().files.len(), 1);
    }
}
