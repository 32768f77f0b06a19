//! Requests as Nix may send them, and as it would not.

use std::time::Duration;

use snowbank_harness::{
    Api, Client, NixStore, Random, Server,
    ageing::{HOUR, age_everything},
    craft::{Deposit, Node},
    oracle,
    oracle::Oracle,
    process, trees,
};

/// A path with this content, and the name of its uploaded file.
fn deposit(random: &mut Random, name: &str, kibibytes: usize) -> (Deposit, String) {
    let contents = random.bytes(kibibytes << 10);
    let deposit = Deposit::of(random, name, &Node::File(contents));
    let file = format!("{}.nar", deposit.nar_hash().to_nix32());
    (deposit, file)
}

fn put_nar(api: &Api, deposit: &Deposit, file: &str) {
    let answer = api.put(&format!("/main/nar/{file}"), &[], deposit.nar.clone());
    assert_eq!(answer.status.as_u16(), 201, "{}", answer.text());
}

fn put_narinfo(api: &Api, deposit: &Deposit, file: &str) -> String {
    let text = deposit.narinfo_text(file).into_bytes();
    let answer = api.put(&deposit.narinfo(), &[("Content-Type", "text/x-nix-narinfo")], text);
    assert_eq!(answer.status.as_u16(), 201, "{}", answer.text());
    answer.text()
}

#[test]
fn narinfos_come_in_every_order() {
    let server = Server::start();
    let (api, oracle) = (Api::root(&server), Oracle::main(&server));
    let mut random = Random::fixed(1);
    // c refers to b and a, b to a; in each order of the three.
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let (a, file_a) = deposit(&mut random, "a", 3);
        let (b, file_b) = deposit(&mut random, "b", 3);
        let (c, file_c) = deposit(&mut random, "c", 3);
        let b = b.referring_to(&[&a]);
        let c = c.referring_to(&[&b, &a]);
        let all = [(a, file_a), (b, file_b), (c, file_c)];
        for (deposit, file) in &all {
            put_nar(&api, deposit, file);
        }
        let mut came = Vec::new();
        for number in order {
            let (deposit, file) = &all[number];
            let _ = put_narinfo(&api, deposit, file);
            came.push(number);
            for (number, (deposit, _)) in all.iter().enumerate() {
                let is_there = (0..=number).all(|needed| came.contains(&needed));
                assert_eq!(oracle.visible(&deposit.store_path), is_there, "{order:?} {came:?}");
            }
        }
        for (deposit, _) in &all {
            let _ = oracle.assert_whole(&deposit.store_path);
        }
    }
    oracle::assert_check_is_clean(&server);
}

#[test]
fn a_path_that_waits_is_woken_by_a_push_of_another_client() {
    let (server, store) = (Server::start(), NixStore::new());
    let (api, oracle, mut random) = (Api::root(&server), Oracle::main(&server), Random::fixed(11));
    let reference = trees::add_noise(&store, &mut random, "reference", 2000);
    let (mut waiting, file) = deposit(&mut random, "waiting", 3);
    waiting.references = vec![reference.rsplit('/').next().unwrap().to_owned()];
    put_nar(&api, &waiting, &file);
    let _ = put_narinfo(&api, &waiting, &file);
    assert!(!oracle.visible(&waiting.store_path));
    let _ = Client::of(&server, &store).push(&[&reference]).success();
    process::wait_until("the waiting path is visible", Duration::from_secs(10), || {
        oracle.visible(&waiting.store_path)
    });
    let _ = oracle.assert_whole(&waiting.store_path);
}

#[test]
fn a_path_waits_for_no_reference_that_can_never_come() {
    let server = Server::start();
    let (api, mut random) = (Api::root(&server), Random::fixed(12));
    let (there, there_file) = deposit(&mut random, "there", 3);
    put_nar(&api, &there, &there_file);
    let _ = put_narinfo(&api, &there, &there_file);
    let (mut path, file) = deposit(&mut random, "path", 3);
    put_nar(&api, &path, &file);
    path.references = vec![there.base_name().replace("-there", "-elsewhere")];
    let put = |path: &Deposit| api.put(&path.narinfo(), &[], path.narinfo_text(&file).into_bytes());
    let message = put(&path).refused(422, "references-missing");
    assert!(message.contains("elsewhere"), "{message}");
    // A narinfo that is longer than one that may wait.
    path.references = (0..900).map(|_| format!("{}-missing", random.hash_chars())).collect();
    let message = put(&path).refused(422, "limit-exceeded");
    assert!(message.contains("upload its references first"), "{message}");
    // A path that waits for itself and another is no reason to look for ever.
    let mut other = deposit(&mut random, "other", 3).0;
    other.nar.clone_from(&path.nar);
    path.references = vec![path.base_name().to_owned(), other.base_name().to_owned()];
    other.references = vec![path.base_name().to_owned()];
    for path in [&path, &other] {
        assert_eq!(put(path).status.as_u16(), 201);
        assert!(!Oracle::main(&server).visible(&path.store_path));
    }
    let _ = put_narinfo(&api, &there, &there_file);
    oracle::assert_check_is_clean(&server);
}

#[test]
fn repeated_uploads_succeed_and_change_nothing() {
    let server = Server::start();
    let (api, mut random) = (Api::root(&server), Random::fixed(2));
    let (deposit, file) = deposit(&mut random, "again", 700);
    for _ in 0..3 {
        assert_eq!(api.put("/main/nix-cache-info", &[], b"StoreDir: /x\n".to_vec()).status, 201);
        put_nar(&api, &deposit, &file);
        let head = api.head(&format!("/main/nar/{file}"));
        assert_eq!(head.status.as_u16(), 200);
        let _ = put_narinfo(&api, &deposit, &file);
        let listing = deposit.narinfo().replace(".narinfo", ".ls");
        assert_eq!(api.put(&listing, &[], b"{}".to_vec()).status, 201);
    }
    let stored = server.stored_bytes();
    let _ = put_narinfo(&api, &deposit, &file);
    assert_eq!(server.stored_bytes(), stored);
    let _ = Oracle::main(&server).assert_whole(&deposit.store_path);
    assert!(api.get("/main/nix-cache-info").text().contains("StoreDir: /nix/store"));
    // Nobody else sees what was uploaded and has no path.
    let (other, other_file) = self::deposit(&mut random, "unseen", 10);
    put_nar(&api, &other, &other_file);
    let address = format!("/main/nar/{other_file}");
    assert_eq!(Api::anonymous(&server).head(&address).status.as_u16(), 404);
    assert_eq!(Api::anonymous(&server).get(&address).status.as_u16(), 404);
}

#[test]
fn a_narinfo_that_lies_makes_nothing_visible() {
    let server = Server::start();
    let (api, oracle, mut random) = (Api::root(&server), Oracle::main(&server), Random::fixed(3));
    let (deposit, file) = deposit(&mut random, "lies", 40);
    put_nar(&api, &deposit, &file);
    let true_text = deposit.narinfo_text(&file);
    let size = format!("NarSize: {}", deposit.nar.len());
    let other_hash = self::deposit(&mut random, "x", 1).0.nar_hash();
    let changed = |from: &str, to: &str| {
        assert!(true_text.contains(from));
        true_text.replace(from, to)
    };
    let hash = deposit.nar_hash().to_string();
    let cases = [
        (changed(&size, "NarSize: 5"), "nar-mismatch", "5 bytes"),
        (changed(&hash, &other_hash.to_string()), "nar-mismatch", &hash[..]),
        (format!("{true_text}FileSize: 7\n"), "nar-mismatch", "7"),
        (format!("{true_text}FileHash: {other_hash}\n"), "nar-mismatch", "says"),
        (changed(&file, "other.nar"), "nar-missing", "other.nar"),
        (changed("NarSize", "NarSise"), "narinfo-invalid", "NarSize"),
        (true_text.trim_end().to_owned(), "narinfo-invalid", "line"),
        (changed("/nix/store/", "/gnu/store/"), "narinfo-invalid", "store"),
        (String::new(), "narinfo-invalid", "StorePath"),
    ];
    for (text, code, part) in cases {
        let answer = api.put(&deposit.narinfo(), &[], text.clone().into_bytes());
        let message = answer.refused(422, code);
        assert!(message.contains(part), "{part}: {message}");
        assert!(!oracle.visible(&deposit.store_path), "{text}");
    }
    let elsewhere = self::deposit(&mut random, "elsewhere", 1).0.narinfo();
    let answer = api.put(&elsewhere, &[], true_text.clone().into_bytes());
    let _ = answer.refused(422, "narinfo-invalid");
    let _ = put_narinfo(&api, &deposit, &file);
    // Another content under the same path: the first one stays.
    let mut second = self::deposit(&mut random, "second", 5);
    second.0.store_path.clone_from(&deposit.store_path);
    put_nar(&api, &second.0, &second.1);
    let answer = api.put(&second.0.narinfo(), &[], second.0.narinfo_text(&second.1).into_bytes());
    let message = answer.refused(409, "conflict");
    assert!(message.contains(&hash), "{message}");
    let _ = oracle.assert_whole(&deposit.store_path);
    oracle::assert_check_is_clean(&server);
}

#[test]
fn fields_that_are_not_known_and_signatures_are_served() {
    let server = Server::start();
    let (api, mut random) = (Api::root(&server), Random::fixed(4));
    let (deposit, file) = deposit(&mut random, "extra", 4);
    put_nar(&api, &deposit, &file);
    let extra = "Provenance: {\"type\":\"build\",\"drv\":\"x y\"}\n";
    let signature = format!("Sig: slh-1:{}\n", "A".repeat(4000));
    let text = format!("{}{signature}{extra}", deposit.narinfo_text(&file));
    let answer = api.put(&deposit.narinfo(), &[], text.into_bytes());
    assert_eq!(answer.status.as_u16(), 201, "{}", answer.text());
    let served = api.get(&deposit.narinfo()).text();
    assert!(served.contains(extra), "{served}");
    assert!(served.contains(&signature), "{served}");
    // Somebody else's signatures are added.
    let more = format!("{}Sig: other-1:{}\n", deposit.narinfo_text(&file), "B".repeat(88));
    assert_eq!(api.put(&deposit.narinfo(), &[], more.into_bytes()).status.as_u16(), 201);
    let served = api.get(&deposit.narinfo()).text();
    assert!(served.contains("Sig: other-1:") && served.contains(&signature), "{served}");
    let other = NixStore::new();
    let url = format!("{}/main", server.url());
    let key = Oracle::main(&server).public_key();
    let _ = other.substitute(&url, &key, &[&deposit.store_path]).success();
}

#[test]
fn narinfos_are_taken_in_every_encoding() {
    let server = Server::start();
    let (api, mut random) = (Api::root(&server), Random::fixed(6));
    for (encoding, program) in
        [("xz", "xz"), ("gzip", "gzip"), ("zstd", "zstd"), ("bzip2", "bzip2")]
    {
        let (deposit, file) = deposit(&mut random, encoding, 2);
        put_nar(&api, &deposit, &file);
        let encoded = super::damage::compressed(program, deposit.narinfo_text(&file).as_bytes());
        let address = deposit.narinfo();
        let wrong = api.put(&address, &[("Content-Encoding", "xyz")], encoded.clone());
        assert_eq!(wrong.status.as_u16(), 415, "{}", wrong.text());
        let cut_off = encoded[..encoded.len() - 4].to_vec();
        let answer = api.put(&address, &[("Content-Encoding", encoding)], cut_off);
        let _ = answer.refused(422, "narinfo-invalid");
        let answer = api.put(&address, &[("Content-Encoding", encoding)], encoded);
        assert_eq!(answer.status.as_u16(), 201, "{}", answer.text());
        let _ = Oracle::main(&server).assert_whole(&deposit.store_path);
    }
}

#[test]
fn only_whoever_may_push_uploads() {
    let server = Server::start();
    let mut random = Random::fixed(7);
    let (deposit, file) = deposit(&mut random, "rights", 2);
    let nar = format!("/main/nar/{file}");
    let addresses = [&nar[..], &deposit.narinfo(), "/main/nix-cache-info", "/main/x.ls"];
    let reader = server.token("reader", &["*"], &["other"]);
    for address in addresses {
        let answer = Api::anonymous(&server).put(address, &[], b"x".to_vec());
        assert_eq!(answer.status.as_u16(), 401, "{address}: {}", answer.text());
        let answer = Api::new(&server.url(), Some(&reader)).put(address, &[], b"x".to_vec());
        assert_eq!(answer.status.as_u16(), 403, "{address}: {}", answer.text());
        let absent = address.replace("/main/", "/absent/");
        let answer = Api::new(&server.url(), Some(&reader)).put(&absent, &[], b"x".to_vec());
        assert_eq!(answer.status.as_u16(), 403, "{absent}: {}", answer.text());
    }
    let api = Api::root(&server);
    for name in ["nar/.hidden", "nar/a%2Fb", "nar/%20"] {
        let answer = api.put(&format!("/main/{name}"), &[], deposit.nar.clone());
        assert!(matches!(answer.status.as_u16(), 400 | 404), "{name}: {}", answer.text());
    }
    let long = format!("/main/nar/{}", "x".repeat(300));
    assert_eq!(api.put(&long, &[], deposit.nar.clone()).status.as_u16(), 400);
    assert_eq!(api.put("/main/x.txt", &[], Vec::new()).status.as_u16(), 404);
}

#[test]
fn a_nar_is_kept_for_its_narinfo_and_no_longer_than_a_day() {
    let server = Server::start();
    let (api, mut random) = (Api::root(&server), Random::fixed(8));
    let (kept, kept_file) = deposit(&mut random, "kept", 300);
    put_nar(&api, &kept, &kept_file);
    let collect = || server.command(&["gc", "--grace", "0s", "--yes"]).succeeds();
    collect();
    let _ = put_narinfo(&api, &kept, &kept_file);
    let _ = Oracle::main(&server).assert_whole(&kept.store_path);

    // One whose narinfo waits, and one that gets none.
    let (late, late_file) = deposit(&mut random, "late", 300);
    let (waiting, waiting_file) = deposit(&mut random, "waiting", 300);
    let waiting = waiting.referring_to(&[&late]);
    put_nar(&api, &waiting, &waiting_file);
    let text = put_narinfo(&api, &waiting, &waiting_file);
    assert!(text.contains("waits for a day"), "{text}");
    age_everything(&server, 23 * HOUR);
    collect();
    put_nar(&api, &late, &late_file);
    age_everything(&server, 2 * HOUR);
    collect();
    let before = server.stored_bytes();
    assert!(before > 600 << 10, "{before}: the late one is kept");
    let _ = put_narinfo(&api, &late, &late_file);
    assert!(!Oracle::main(&server).visible(&waiting.store_path), "it was forgotten");
    let text = waiting.narinfo_text(&waiting_file).into_bytes();
    let _ = api.put(&waiting.narinfo(), &[], text).refused(422, "nar-missing");
    put_nar(&api, &waiting, &waiting_file);
    let _ = put_narinfo(&api, &waiting, &waiting_file);
    let _ = Oracle::main(&server).assert_whole(&waiting.store_path);
    oracle::assert_check_is_clean(&server);
}

#[test]
fn a_server_says_what_it_is_and_a_cache_what_it_signs_with() {
    let server = Server::start();
    let api = Api::anonymous(&server);
    let described: serde_json::Value = api.get("/.well-known/snowbank").json();
    assert_eq!(described["server"], "snowbank");
    assert_eq!(described["upload"]["nix_copy"], true);
    assert!(!described.to_string().contains("main"), "{described}");
    let keys = api.get("/main/public-key").text();
    assert_eq!(keys.trim(), Oracle::main(&server).public_key());
    assert_eq!(api.get("/absent/public-key").status.as_u16(), 401);
}
