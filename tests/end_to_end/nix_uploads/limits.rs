//! What an uploader can cause is bounded.

use snowbank_harness::{
    Api, Random, Server,
    craft::{Deposit, Node},
};

use super::damage::compressed;

#[test]
fn a_few_bytes_that_expand_without_end_stop_at_the_largest_nar() {
    let mut server = Server::options().config("[limits]\nmax-nar-size = \"32MiB\"\n").start();
    let mut random = Random::fixed(1);
    // A NAR of zeros: 200 MiB that compress to next to nothing.
    let deposit = Deposit::of(&mut random, "bomb", &Node::File(vec![0; 200 << 20]));
    let before = server.rss_bytes();
    for program in ["xz", "bzip2", "gzip", "zstd", "lz4"] {
        let body = compressed(program, &deposit.nar);
        let answer = Api::root(&server).put(&format!("/main/nar/{program}"), &[], body);
        let _ = answer.refused(413, "too-large");
    }
    let peak = server.peak_rss_bytes();
    assert!(peak < before + (100 << 20), "{} MiB", peak >> 20);
    assert_eq!(Api::root(&server).get("/healthz").status.as_u16(), 200);
}

#[test]
fn many_uploads_at_once_take_no_more_memory_than_they_may() {
    let mut server = Server::start();
    let deposits: Vec<Deposit> = (0..16)
        .map(|number| {
            let mut random = Random::fixed(100 + number);
            let contents = random.bytes(24 << 20);
            Deposit::of(&mut random, "many", &Node::File(contents))
        })
        .collect();
    std::thread::scope(|scope| {
        for (number, deposit) in deposits.iter().enumerate() {
            let server = &server;
            scope.spawn(move || {
                let api = Api::root(server);
                let address = format!("/main/nar/{number}.nar");
                let answer = api.put(&address, &[], deposit.nar.clone());
                assert_eq!(answer.status.as_u16(), 201, "{}", answer.text());
            });
        }
    });
    let peak = server.peak_rss_bytes() >> 20;
    assert!(peak < 192, "{peak} MiB");
}

#[test]
fn compressed_texts_cost_little_whatever_they_are() {
    let mut server = Server::start();
    let mut random = Random::fixed(3);
    let deposit = Deposit::of(&mut random, "texts", &Node::File(vec![7; 3000]));
    let (api, before) = (Api::root(&server), server.rss_bytes());
    let empty = compressed("bzip2", b"");
    let log = format!("/main/log/{}-x.drv", random.hash_chars());
    for (address, answers) in [(deposit.narinfo(), &[422][..]), (log, &[400, 422])] {
        let began = std::time::Instant::now();
        let many = empty.repeat(70_000);
        let answer = api.put(&address, &[("Content-Encoding", "bzip2")], many);
        assert!(answers.contains(&answer.status.as_u16()), "{}", answer.text());
        assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
        // The mark of brotli's large windows.
        let large = [&[0x11, 0x1e][..], &[0; 300]].concat();
        let answer = api.put(&address, &[("Content-Encoding", "br")], large);
        assert!(answers.contains(&answer.status.as_u16()), "{}", answer.text());
    }
    let large = [&[0x11, 0x1e][..], &[0; 300]].concat();
    let message = api.put("/main/nar/x.nar.br", &[], large).refused(422, "nar-invalid");
    assert!(message.contains("window"), "{message}");
    let zeros = compressed("xz", &vec![0; 300 << 20]);
    let log = format!("/main/log/{}-y.drv", random.hash_chars());
    let answer = api.put(&log, &[("Content-Encoding", "xz")], zeros);
    assert_eq!(answer.status.as_u16(), 400, "{}", answer.text());
    let peak = server.peak_rss_bytes();
    assert!(peak < before + (100 << 20), "{} MiB", peak >> 20);
}
