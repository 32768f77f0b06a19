use snowbank_core::{chunk::*, frame::*, store_path::*, hash::Sha256};
use std::time::Instant;
fn files(dir: &str, limit: usize, out: &mut Vec<u8>) {
    let mut stack = vec![std::path::PathBuf::from(dir)];
    while let Some(d) = stack.pop() {
        let mut es: Vec<_> = std::fs::read_dir(&d).into_iter().flatten().flatten().collect(); es.sort_by_key(|e| e.path());
        for e in es { let Ok(t)=e.file_type() else {continue}; if t.is_dir() { stack.push(e.path()) } else if t.is_file() { if let Ok(b)=std::fs::read(e.path()) { out.extend(b); if out.len()>limit {out.truncate(limit);return} } } }
    }
}
fn plant(data: &[u8], every: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len()*2); let mut n=0u64;
    for piece in data.chunks(every) { out.extend_from_slice(piece); n+=1; let h=blake3::hash(&(n%300).to_le_bytes()); let h=StorePathHash::from_bytes(h.as_bytes()[..20].try_into().unwrap()); out.extend_from_slice(b"/nix/store/"); out.extend_from_slice(&h.to_chars()); out.extend_from_slice(b"-python3-3.13/lib"); }
    out
}
fn best(label:&str, bytes: usize, n: usize, mut f: impl FnMut()) { let mut b=f64::MAX; for _ in 0..n { let t=Instant::now(); f(); b=b.min(t.elapsed().as_secs_f64()); } println!("SPEED   {label}: {:.2} GB/s ({:.1} ms)", bytes as f64/b/1e9, b*1e3); }
#[test]
fn speed() {
    let mut py=vec![]; files("/usr/lib/python3", 64<<20, &mut py); files("/usr/lib/python3.11", 64<<20, &mut py); files("/usr/share", 64<<20, &mut py);
    let mut so=vec![]; files("/root/.rustup/toolchains/1.95.0-x86_64-unknown-linux-gnu/lib", 64<<20, &mut so);
    for (name,data) in [("text",py.clone()),("so",so.clone()),("text+slot/8K",plant(&py,8192)),("so+slot/8K",plant(&so,8192)),("text+slot/2K",plant(&py,2048))] {
        println!("SPEED {name} {} MB", data.len()>>20);
        let sd=StoreDir::default(); let n=data.len();
        let run=|f:&mut dyn FnMut(Chunk)| { let mut c=Chunker::new(&sd,CutParams::DEFAULT).unwrap(); for p in data.chunks(256<<10) {c.feed(p,f);} c.finish(f); };
        best("mask+cut",n,3,||run(&mut |_|{}));
        best("mask+cut+name",n,3,||run(&mut |c|{std::hint::black_box(c.name());}));
        best("sha256",n,1,||{std::hint::black_box(Sha256::of(&data));});
        let mut chunks=vec![]; run(&mut |c|chunks.push(c));
        let names:Vec<_>=chunks.iter().map(Chunk::name).collect();
        let slots:usize=chunks.iter().map(|c|c.slots.len()).sum();
        for level in [3,7] {
            let mut e=FrameEncoder::new(level); let mut enc=vec![]; let mut fails=0;
            best(&format!("encode {level}"),n,2,||{enc.clear(); for (c,nm) in chunks.iter().zip(&names) { match e.encode(c,nm) {Ok(x)=>enc.push(x),Err(_)=>fails+=1} }});
            let mut z=zstd::bulk::Compressor::new(level).unwrap(); let mut plain=0;
            best(&format!("plain zstd {level}"),n,1,||{plain=0; for c in &chunks {plain+=z.compress(&c.true_bytes()).unwrap().len();}});
            let size:usize=enc.iter().map(|x|x.frame.len()+x.header.encoded_len()).sum();
            println!("SPEED   {} chunks {} open {} slots, {} -> {} plain {} ratio {:.4} fails {fails}", chunks.len(), chunks.iter().filter(|c|c.is_open()).count(), slots, n, size, plain, size as f64/plain as f64);
            if level==3 {
                let mut v=FrameVerifier::new();
                best("verify",n,3,||{for x in &enc {v.verify(&x.header,&x.frame,&[1;32]).unwrap();}});
                let mut d=FrameDecoder::new(); let mut o=vec![];
                best("decode",n,3,||{for x in &enc {o.clear();d.decode_into(&x.frame,x.header.raw_len,&mut o).unwrap();}});
                let stored:usize=enc.iter().map(|x|x.frame.len()).sum();
                best("fill (of stored)",stored,3,||{for (x,c) in enc.iter_mut().zip(&chunks) {fill(&mut x.frame,&x.header.slots,&c.values).unwrap();}});
            }
        }
    }
}
