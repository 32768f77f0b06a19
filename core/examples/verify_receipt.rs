//! Verifies a file of receipts by itself, without a server and without the `snowbank` program:
//!
//! ```text
//! cargo run -p snowbank-core --example verify_receipt -- RECEIPTS.jsonl NAME:BASE64…
//! ```
//!
//! The file has a JSON object per line, as `snowbank push --receipts FILE` writes it. The keys are
//! the cache's public keys, as nix.conf's `trusted-public-keys` has them. A receipt is good if one
//! of the keys signed `snowbank-receipt;1;STATUS;CACHE;STORE_PATH;NAR_HASH;NAR_SIZE;TIME`. The
//! program prints a line for every line of the file, and exits with 1 if one of them proves
//! nothing.
//!
//! Whether the cache still serves the path is another question: `snowbank verify-receipts` asks it.

use std::process::ExitCode;
use std::{env, error::Error, fs};

use snowbank_core::receipt::{Receipt, ReceiptLine};
use snowbank_core::signing::{PublicKey, Signature};

fn main() -> ExitCode {
    match run(env::args().skip(1)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("verify_receipt: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether every line of the file is a receipt that one of the keys signed.
fn run(mut args: impl Iterator<Item = String>) -> Result<bool, Box<dyn Error>> {
    let file = args.next().ok_or("usage: verify_receipt RECEIPTS.jsonl NAME:BASE64…")?;
    let keys = args.map(|key| key.parse()).collect::<Result<Vec<PublicKey>, _>>()?;
    if keys.is_empty() {
        return Err("no key was given; the cache's page and nix.conf have it".into());
    }
    let text = fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
    let (mut lines, mut good) = (0, 0);
    for (number, line) in (1..).zip(text.lines()) {
        lines += 1;
        match verify(line, &keys) {
            Ok(receipt) => {
                good += 1;
                println!("{number}: {}: {}", receipt.store_path, receipt.status);
            }
            Err(reason) => println!("{number}: NOT PROVEN: {reason}"),
        }
    }
    if lines == 0 {
        return Err(format!("{file} is empty, so nothing was verified").into());
    }
    println!("{good} of {lines} lines are receipts with a valid signature");
    Ok(good == lines)
}

/// The receipt in one line of the file, or the reason why the line proves nothing.
fn verify(line: &str, keys: &[PublicKey]) -> Result<Receipt, String> {
    let line = serde_json::from_str(line).map_err(|error| format!("not a receipt: {error}"))?;
    let receipt = match line {
        ReceiptLine::Receipt(receipt) => receipt,
        ReceiptLine::Different { store_path, .. } => {
            return Err(format!("{store_path}: the cache has it with other contents"));
        }
        ReceiptLine::SkippedUpstream { store_path, reason, .. } => {
            return Err(format!("{store_path}: not pushed, an upstream cache has it ({reason})"));
        }
        ReceiptLine::LeftOut { store_path, reason, .. } => {
            return Err(format!("{store_path}: not pushed, a filter left it out: {reason}"));
        }
        ReceiptLine::Failed { store_path, reason } => {
            return Err(format!("{store_path}: not pushed: {reason}"));
        }
    };
    if receipt.verify(keys) {
        return Ok(receipt);
    }
    let path = &receipt.store_path;
    let signers: Vec<&str> = receipt.signatures.iter().map(Signature::name).collect();
    let has_key = |name: &&str| keys.iter().any(|key| key.name() == *name);
    Err(match signers.iter().find(|name| has_key(name)) {
        Some(name) => format!("{path}: the signature by {name} does not fit the receipt"),
        None if signers.is_empty() => format!("{path}: the receipt has no signature"),
        None => format!("{path}: signed by {}, whose key was not given", signers.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines that every version of Snowbank writes alike.
    const LINES: &str = include_str!("../tests/golden/receipts.jsonl");
    /// The public half of the key that signed them.
    const KEY: &str = "cache.example.org-main-1:iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=";

    fn keys() -> Vec<PublicKey> {
        vec![KEY.parse().unwrap()]
    }

    #[test]
    fn receipts_are_told_from_other_lines() {
        let verdicts: Vec<_> = LINES.lines().map(|line| verify(line, &keys())).collect();
        let [uploaded, present, different, skipped, failed] = &verdicts[..] else {
            panic!("{verdicts:?}")
        };
        assert_eq!(uploaded.as_ref().unwrap().cache, "main");
        for (verdict, reason) in [
            // Its signature is that of the first line, whose status is another one.
            (present, "does not fit the receipt"),
            (different, "other contents"),
            (skipped, "an upstream cache has it"),
            (failed, "no such file"),
        ] {
            let found = verdict.as_ref().unwrap_err();
            assert!(found.contains(reason), "{found}");
        }
    }

    #[test]
    fn a_changed_receipt_proves_nothing() {
        let good = LINES.lines().next().unwrap();
        for (from, to, reason) in [
            ("\"cache\":\"main\"", "\"cache\":\"other\"", "does not fit the receipt"),
            ("cache.example.org-main-1:", "someone-1:", "whose key was not given"),
            ("{", "", "not a receipt"),
        ] {
            assert!(good.contains(from));
            let found = verify(&good.replacen(from, to, 1), &keys()).unwrap_err();
            assert!(found.contains(reason), "{found}");
        }
    }

    #[test]
    fn wrong_arguments_are_explained() {
        let error =
            |args: &[&str]| run(args.iter().map(ToString::to_string)).unwrap_err().to_string();
        assert!(error(&[]).starts_with("usage"));
        assert!(error(&["receipts.jsonl"]).contains("no key"));
        assert!(error(&["receipts.jsonl", "no-colon"]).contains("name:base64"));
        assert!(error(&["/no/such/file", KEY]).contains("/no/such/file"));
    }
}
