//! `PUT /_api/v1/upload-path`: a NAR with what is to be known of its path, in a header or before
//! the NAR in the body.
//!
//! attic's client uploads paths in any order, several at a time. A path whose references are not
//! visible yet is answered as uploaded, and becomes visible with the last of them.

use std::pin::Pin;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};
use snowbank_core::attic::{UploadInfo, UploadKind, UploadResult};
use snowbank_core::cache_name::CacheName;
use snowbank_core::narinfo::NarInfo;
use snowbank_core::wire::{CommitLine, code};

use super::super::access::may_push;
use super::super::body::{BodyError, BodyLimits, declared_length, grow, limited};
use super::super::caller::{AuditCache, AuditDetail, Caller, PushCaller};
use super::super::error::ApiError;
use super::super::json::{self, Detail};
use crate::admission::Hold;
use crate::app::App;
use crate::auth::{AuthError, MayPush};
use crate::clock::unix_now;
use crate::db;
use crate::ingest::{
    Committer, Compression, NarUpload, Published, ReceivedNar, publish, receive_nar,
};

/// Headers with the NAR info: of attic, and of its fork.
const INFO: [&str; 2] = ["x-attic-nar-info", "x-celler-nar-info"];
/// Headers with the length of a NAR info that stands before the NAR.
const PREAMBLE_SIZE: [&str; 2] =
    ["x-attic-nar-info-preamble-size", "x-celler-nar-info-preamble-size"];
/// The longest NAR info: ten thousand references.
const MAX_INFO_BYTES: usize = 1 << 20;

type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>;

pub(in crate::http) async fn upload_path(
    State(app): State<Arc<App>>,
    PushCaller(caller): PushCaller,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let mut cache = None;
    let mut response = upload(&app, &caller, &headers, body, &mut cache).await.into_response();
    if let Some(cache) = cache {
        response.extensions_mut().insert(AuditCache(cache));
    }
    response
}

/// Takes an upload; leaves in `cache` to which cache it goes, as soon as that is known.
async fn upload(
    app: &App,
    caller: &Caller,
    headers: &HeaderMap,
    body: Body,
    cache: &mut Option<CacheName>,
) -> Result<Response, ApiError> {
    caller.token.as_ref().ok_or(AuthError::Missing)?;
    let largest = app.config.limits.max_nar_size.bytes();
    let limits = BodyLimits::new(&app.config.limits, largest.saturating_add(MAX_INFO_BYTES as u64));
    declared_length(headers, limits)?;
    let client = caller.client();
    let mut hold = app.budgets.bodies.open(&client);
    // What the NAR info takes is a part of a body that is still coming, until all of it has come.
    let mut body: Pieces = Box::pin(limited(body, limits, hold.revoked()));
    let text = match InfoPlace::of(headers)? {
        InfoPlace::Header(text) => text.to_vec(),
        InfoPlace::Preamble(size) => {
            let (text, rest) = read_preamble(&mut body, size, &mut hold).await?;
            body = Box::pin(stream::iter([Ok(rest)]).chain(body));
            text
        }
    };
    let info: UploadInfo = json::parse(app, text, &mut hold, ("NAR info", Detail::All)).await?;
    *cache = info.cache.parse().ok();
    let push = may_push(app, headers, &info.cache).await?;
    if info.nar_size > largest {
        let message = format!(
            "the NAR has {} bytes, and this server takes at most {largest} (`[limits] \
             max-nar-size`)",
            info.nar_size
        );
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, code::TOO_LARGE, message));
    }
    app.free_space.check(info.nar_size).await?;
    // The same NAR has the same name, and no other has it: what was declared is what has come.
    let file = format!("{}.nar", info.nar_hash.to_nix32());
    let narinfo = info
        .to_narinfo(&push.target.cache.store_dir, format!("nar/{file}"))
        .map_err(|error| unprocessable(format!("the NAR info: {error}")))?;
    drop(info);
    let upload = NarUpload {
        client: &client,
        file: &file,
        body,
        compression: Some(Compression::Plain),
        declared: Some((narinfo.nar_hash, narinfo.nar_size)),
        params: app.cut,
    };
    let received = receive_nar(&app.ingest, &push.target.cache, upload, unix_now).await?;
    let detail = commit(app, caller, &push, narinfo, &received).await?;
    drop(hold);
    let file_size = file_size(app, &push, &received).await?;
    let mut response = Json(result(&received, file_size)).into_response();
    response.extensions_mut().insert(AuditDetail(detail));
    Ok(response)
}

/// Makes the path visible, or has it wait for its references; gives what the audit log is to say.
async fn commit(
    app: &App,
    caller: &Caller,
    push: &MayPush,
    narinfo: NarInfo,
    received: &ReceivedNar,
) -> Result<String, ApiError> {
    let client = caller.client();
    let cache = &push.target.cache;
    let log = app.pushes.request(&push.subject, &caller.actor.remote, cache.name.as_str());
    log.stored(received.stored_bytes);
    let (base_name, hash) = (narinfo.store_path.base_name(), narinfo.store_path.hash());
    let text = narinfo.render(&cache.store_dir);
    let place = app.budgets.commit(&client).await?;
    let committer = Committer { push, actor: &caller.actor, client: &client };
    let published = publish(&app.ingest, committer, narinfo, &text, unix_now()).await?;
    drop(place);
    match published {
        Published::Visible(receipt) => {
            app.narinfos.forget(cache.id, hash);
            let detail = format!("{base_name} {} {}", receipt.status, receipt.nar_hash);
            log.answered(&CommitLine::Receipt(*receipt));
            Ok(detail)
        }
        Published::Waiting(missing) => {
            Ok(format!("{base_name} waits for {} references", missing.len()))
        }
        Published::Refused(line) => {
            log.answered(&line);
            Err(ApiError::of_line(*line))
        }
    }
}

/// How long the NAR is as it is served.
async fn file_size(
    app: &App,
    push: &MayPush,
    received: &ReceivedNar,
) -> Result<Option<u64>, ApiError> {
    let mut conn = app.db.reader().await?;
    let hashes = [received.nar_hash];
    let found = db::nars::lookup_many(conn.exec(), push.target.cache.domain, &hashes).await?;
    Ok(found.get(&received.nar_hash).map(|nar| nar.file_size))
}

fn result(received: &ReceivedNar, file_size: Option<u64>) -> UploadResult {
    let ReceivedNar { nar_size, new_bytes, .. } = *received;
    let kind = if new_bytes == 0 { UploadKind::Deduplicated } else { UploadKind::Uploaded };
    let known = nar_size.saturating_sub(new_bytes);
    #[expect(clippy::cast_precision_loss, reason = "it is shown in percent")]
    let fraction = known as f64 / nar_size.max(1) as f64;
    UploadResult { kind, file_size, frac_deduplicated: Some(fraction) }
}

/// Where the NAR info stands.
#[derive(Debug, PartialEq, Eq)]
enum InfoPlace<'a> {
    Header(&'a [u8]),
    /// In so many bytes at the beginning of the body.
    Preamble(usize),
}

impl<'a> InfoPlace<'a> {
    fn of(headers: &'a HeaderMap) -> Result<Self, ApiError> {
        let first = |names: [&str; 2]| names.iter().find_map(|name| headers.get(*name));
        match (first(PREAMBLE_SIZE), first(INFO)) {
            (Some(_), Some(_)) => Err(ApiError::bad_request(
                "the NAR info is said to be in a header and in the body; send it once",
            )),
            (Some(size), None) => {
                let size = size.to_str().ok().and_then(|text| text.trim().parse().ok());
                match size {
                    Some(size) if size <= MAX_INFO_BYTES => Ok(Self::Preamble(size)),
                    Some(size) => Err(ApiError::limit(format!(
                        "a NAR info of {size} bytes; at most {MAX_INFO_BYTES} are taken"
                    ))),
                    None => Err(ApiError::bad_request(
                        "`X-Attic-Nar-Info-Preamble-Size` is no number of bytes",
                    )),
                }
            }
            (None, Some(info)) => Ok(Self::Header(info.as_bytes())),
            (None, None) => Err(ApiError::bad_request(
                "there is no NAR info: send it as `X-Attic-Nar-Info`, or before the NAR with \
                 `X-Attic-Nar-Info-Preamble-Size`",
            )),
        }
    }
}

/// The first `size` bytes of a body, and what came along with the last of them.
async fn read_preamble(
    body: &mut Pieces,
    size: usize,
    hold: &mut Hold,
) -> Result<(Vec<u8>, Bytes), ApiError> {
    let mut text = Vec::new();
    loop {
        let Some(mut piece) = body.next().await.transpose()? else {
            return Err(ApiError::bad_request(format!(
                "the body ends after {} bytes, within its NAR info of {size} bytes",
                text.len()
            )));
        };
        let own = piece.split_to(piece.len().min(size - text.len()));
        // The buffer doubles, and is copied when it does.
        grow(hold, 3 * (text.len() + own.len()) as u64, None).await?;
        text.extend_from_slice(&own);
        if text.len() == size {
            return Ok((text, piece));
        }
    }
}

fn unprocessable(message: String) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, code::NARINFO_INVALID, message)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn place(headers: &[(&'static str, &'static str)]) -> Result<String, String> {
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let map: HeaderMap = headers.iter().map(header).collect();
        let place = InfoPlace::of(&map).map_err(ApiError::into_message)?;
        Ok(format!("{place:?}"))
    }

    #[test]
    fn the_info_is_in_a_header_of_either_name_or_in_the_body() {
        for name in INFO {
            assert!(place(&[(name, "{}")]).unwrap().starts_with("Header"));
        }
        for name in PREAMBLE_SIZE {
            assert_eq!(place(&[(name, "17")]).unwrap(), "Preamble(17)");
            assert_eq!(place(&[(name, "1048576")]).unwrap(), "Preamble(1048576)");
            for wrong in ["1048577", "-1", "1e3", "", "18446744073709551616"] {
                assert!(place(&[(name, wrong)]).is_err(), "{wrong}");
            }
        }
        assert!(place(&[(INFO[0], "{}"), (PREAMBLE_SIZE[1], "2")]).is_err());
        assert!(place(&[]).unwrap_err().contains("X-Attic-Nar-Info"));
    }
}
